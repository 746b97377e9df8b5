# Every tests/test_*.c is one CMocka program, every tests/*.sh one script. A comment among their first lines
# says more:  label: opencl  (default: unit),  timeout: 900  (seconds, default 300),  link: -Wl,--wrap=malloc
# (options of a program),  each: op  (one test for every file of ops/, PROGRAM.OP, which finds its op in KFUSE_OP).
# Exit 77 = skipped.
# SPDX-License-Identifier: Apache-2.0

function(kfuse_test_properties test file)
    file(STRINGS ${file} head LIMIT_COUNT 8)
    set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${file})
    set(labels unit)
    set(timeout 300)
    if(head MATCHES "[*#/] *label: *([a-z ]*[a-z])")
        string(REPLACE " " ";" labels ${CMAKE_MATCH_1})
    endif()
    if(head MATCHES "[*#/] *timeout: *([0-9]+)")
        set(timeout ${CMAKE_MATCH_1})
    endif()
    set_tests_properties(${test} PROPERTIES
        LABELS "${labels}" TIMEOUT ${timeout} SKIP_RETURN_CODE 77
        ENVIRONMENT "KFUSE_SOURCE=${PROJECT_SOURCE_DIR};KFUSE_BUILD=${PROJECT_BINARY_DIR}")
endfunction()

# kfuse_op_tests(PROGRAM FILE): tests of the laboratory's own ops (internal = true) are those without a device.
function(kfuse_op_tests program file)
    file(GLOB ops CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/ops/*.c)
    foreach(source IN LISTS ops)
        cmake_path(GET source STEM op)
        file(STRINGS ${source} internal REGEX "[.]internal = true" LIMIT_COUNT 1)
        file(STRINGS ${file} device REGEX "label: *(opencl|simulate)" LIMIT_COUNT 1)
        if(NOT internal OR NOT device)
            add_test(NAME ${program}.${op} COMMAND ${program})
            kfuse_test_properties(${program}.${op} ${file})
            set_property(TEST ${program}.${op} APPEND PROPERTY ENVIRONMENT KFUSE_OP=${op})
        endif()
    endforeach()
endfunction()

file(GLOB files CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/tests/test_*.c)
foreach(file IN LISTS files)
    cmake_path(GET file STEM test)
    add_executable(${test} ${file})
    kfuse_flags(${test})
    set_target_properties(${test} PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${PROJECT_BINARY_DIR}/tests)
    target_include_directories(${test} PRIVATE ${PROJECT_SOURCE_DIR})
    target_include_directories(${test} SYSTEM PRIVATE ${KFUSE_OPENCL_INCLUDE})
    target_compile_definitions(${test} PRIVATE
        KF_SOURCE_DIR="${PROJECT_SOURCE_DIR}" KF_BUILD_DIR="${PROJECT_BINARY_DIR}")
    target_link_libraries(${test} PRIVATE
        $<TARGET_NAME_IF_EXISTS:kfuse_harness> kfuse_core kfuse::cmocka m ${CMAKE_DL_LIBS} Threads::Threads)
    file(STRINGS ${file} wants_toolkit REGEX "KF_HAVE_CUDA_HEADERS" LIMIT_COUNT 1)
    if(wants_toolkit AND KFUSE_CUDA_INCLUDE)
        target_compile_definitions(${test} PRIVATE KF_HAVE_CUDA_HEADERS)
        target_include_directories(${test} SYSTEM PRIVATE ${KFUSE_CUDA_INCLUDE})
    endif()
    file(STRINGS ${file} link REGEX "[*#/] *link: " LIMIT_COUNT 1)
    if(link MATCHES "link: *([^*]*[^* ])")
        separate_arguments(link UNIX_COMMAND "${CMAKE_MATCH_1}")
        target_link_options(${test} PRIVATE ${link})
    endif()
    file(STRINGS ${file} each REGEX "[*#/] *each: *op" LIMIT_COUNT 1)
    if(each)
        kfuse_op_tests(${test} ${file})
    else()
        add_test(NAME ${test} COMMAND ${test})
        kfuse_test_properties(${test} ${file})
    endif()
endforeach()

# tests/fake_X/ is a driver's library without a device behind it, opened by the tests that name it.
file(GLOB sources CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/tests/fake_*/*.c)
foreach(file IN LISTS sources)
    cmake_path(GET file PARENT_PATH folder)
    cmake_path(GET folder FILENAME fake)
    if(NOT TARGET ${fake})
        add_library(${fake} MODULE)
        kfuse_flags(${fake})
        set_target_properties(${fake} PROPERTIES
            LIBRARY_OUTPUT_DIRECTORY ${PROJECT_BINARY_DIR}/tests C_VISIBILITY_PRESET default)
    endif()
    target_sources(${fake} PRIVATE ${file})
endforeach()

file(GLOB files CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/tests/*.sh)
foreach(file IN LISTS files)
    cmake_path(GET file STEM test)
    add_test(NAME ${test} COMMAND ${file} WORKING_DIRECTORY ${PROJECT_BINARY_DIR})
    kfuse_test_properties(${test} ${file})
endforeach()

if(KFUSE_FUZZ)
    file(GLOB files CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/tests/fuzz_*.c)
    foreach(file IN LISTS files)
        cmake_path(GET file STEM fuzz)
        add_executable(${fuzz} ${file})
        set_target_properties(${fuzz} PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${PROJECT_BINARY_DIR}/tests)
        target_link_options(${fuzz} PRIVATE -fsanitize=fuzzer)
        target_link_libraries(${fuzz} PRIVATE $<TARGET_NAME_IF_EXISTS:kfuse_harness> kfuse_core)
    endforeach()
endif()

# The OpenCL implementations on which the programs run.
include(${PROJECT_SOURCE_DIR}/tests/lanes.cmake OPTIONAL)
