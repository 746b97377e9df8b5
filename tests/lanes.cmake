# The devices that tests run on. Included after the tests have been added: every test gets its environment
# here, and every program labelled `opencl` or `simulate` runs once per OpenCL implementation found.
# An implementation is chosen by OCL_ICD_VENDORS, a folder with exactly one .icd file: both ICD loaders
# understand that. The test named like its program is the first lane: PoCL, or Oclgrind for `simulate`;
# the others are NAME:rusticl and so on. SPDX-License-Identifier: Apache-2.0

# kf_icd(NAME library...): makes icd/NAME/NAME.icd when one of the driver's libraries is found.
function(kf_icd name)
    set(folder ${CMAKE_BINARY_DIR}/icd/${name})
    unset(library)
    # Looked for anew at every configure: packages come and go.
    find_file(library NAMES ${ARGN} NO_CACHE PATH_SUFFIXES oclgrind
        PATHS /usr/lib/${CMAKE_LIBRARY_ARCHITECTURE} /usr/lib64 /usr/lib /usr/local/lib /usr/local/lib64
              /usr/lib/${CMAKE_SYSTEM_PROCESSOR}-linux-gnu
        NO_CMAKE_FIND_ROOT_PATH)
    if(library)
        file(MAKE_DIRECTORY ${folder})
        file(CONFIGURE OUTPUT ${folder}/${name}.icd CONTENT "${library}\n")
        set(kf_icd_${name} ${folder} PARENT_SCOPE)
    else()
        file(REMOVE_RECURSE ${folder})
        set(kf_icd_${name} "" PARENT_SCOPE)
    endif()
endfunction()

kf_icd(pocl libpocl.so.2 libpocl.so)
kf_icd(rusticl libRusticlOpenCL.so.1)
kf_icd(oclgrind liboclgrind-rt-icd.so)
kf_icd(nvidia libnvidia-opencl.so.1)
file(MAKE_DIRECTORY ${CMAKE_BINARY_DIR}/icd/none)

# Intel's runtime for CPUs is here only when asked for (scripts/intel_opencl). It alone has sub-groups, and its
# compiler takes half a second and more for a program: it runs what reduces, at few shapes.
set(kf_icd_intel "")
if(EXISTS ${CMAKE_BINARY_DIR}/intel-opencl/icd/intel.icd)
    set(kf_icd_intel ${CMAKE_BINARY_DIR}/intel-opencl/icd)
endif()
set(kf_intel_tests test_opencl_subgroups test_opencl_backend test_opencl_kernels
    test_conformance.softmax test_conformance.log_softmax test_conformance.layer_norm test_conformance.rms_norm
    test_conformance.cross_entropy test_softmax_axis_runs)

# kf_lane(TEST IMPLEMENTATION): the environment of one test on one implementation.
function(kf_lane test name)
    if(NOT kf_icd_${name})
        set(kf_icd_${name} ${CMAKE_BINARY_DIR}/icd/none)
    endif()
    # PoCL's compiled kernels stay between runs; everything else that a test caches is the lane's own.
    string(MAKE_C_IDENTIFIER ${test} file)
    set(environment
        OCL_ICD_VENDORS=${kf_icd_${name}}
        XDG_CACHE_HOME=${CMAKE_BINARY_DIR}/cache/${name}
        POCL_CACHE_DIR=${CMAKE_BINARY_DIR}/cache/pocl-kernels
        CMOCKA_XML_FILE=${CMAKE_BINARY_DIR}/xml/${file}.%g.xml)
    if(test MATCHES "^[a-z0-9_]+[.]([a-z0-9_]+)") # PROGRAM.OP
        list(APPEND environment KFUSE_OP=${CMAKE_MATCH_1})
    endif()
    if(test MATCHES "^test_conformance[.]")
        # It takes every device it sees: on a GPU host the OpenCL lanes must not run the CUDA device too.
        list(APPEND environment KFUSE_BACKEND=opencl)
    endif()
    if(test MATCHES "^test_faults:")
        # What fails is the backend's call, whoever the driver is: the first lane takes every op.
        list(APPEND environment KFUSE_BRIEF=1)
    endif()
    if(name STREQUAL rusticl)
        # Another compiler, which is slow: a choice of widths (tests/shapes.h), all of them are PoCL's.
        list(APPEND environment RUSTICL_ENABLE=llvmpipe KFUSE_SOME=1)
    elseif(name STREQUAL intel)
        # It has been installed, so it must be seen, and have what it was installed for.
        list(APPEND environment KFUSE_FEW=1 KFUSE_REQUIRE=opencl,subgroups)
    elseif(name STREQUAL oclgrind)
        # KFUSE_GUARD=0: no guard zones, a buffer ends where its tensor does. Not OCLGRIND_UNINITIALIZED: that
        # plugin of 21.10 crashes on private arrays; two poisons in every verification stand in for it.
        list(APPEND environment OCLGRIND_LOG=${CMAKE_BINARY_DIR}/xml/${file}.oclgrind.log
            OCLGRIND_CHECK_API=1 OCLGRIND_DATA_RACES=1 OCLGRIND_UNIFORM_WRITES=1 KFUSE_GUARD=0)
        if(test MATCHES "[.]add_(layer|rms)_norm") # test_signature.c tells why
            list(APPEND environment OCLGRIND_BUILD_OPTIONS=-cl-opt-disable)
        endif()
    endif()
    set_property(TEST ${test} APPEND PROPERTY ENVIRONMENT ${environment})
endfunction()

function(kf_lanes)
    file(MAKE_DIRECTORY ${CMAKE_BINARY_DIR}/xml ${CMAKE_BINARY_DIR}/cache/pocl-kernels)
    get_property(tests DIRECTORY PROPERTY TESTS)
    foreach(test IN LISTS tests)
        get_property(labels TEST ${test} PROPERTY LABELS)
        set(first pocl)
        set(others)
        string(REGEX REPLACE "[.].*" "" program ${test})
        if(TARGET ${program})
            if("simulate" IN_LIST labels)
                set(first oclgrind)
            elseif("opencl" IN_LIST labels)
                set(others rusticl oclgrind nvidia)
                if(test IN_LIST kf_intel_tests)
                    list(APPEND others intel)
                endif()
            endif()
        endif()
        if(first STREQUAL oclgrind AND NOT kf_icd_oclgrind)
            # Not every distribution has it: a skip, which the minimum of scripts/test judges.
            set_property(TEST ${test} APPEND PROPERTY ENVIRONMENT KFUSE_REQUIRE=)
        endif()
        get_property(timeout TEST ${test} PROPERTY TIMEOUT)
        foreach(name IN LISTS others)
            if(kf_icd_${name})
                set(lane_labels opencl)
                set(run ${program})
                if(name STREQUAL oclgrind)
                    set(lane_labels simulate)
                    set(run ${PROJECT_SOURCE_DIR}/scripts/oclgrind $<TARGET_FILE:${program}>)
                endif()
                add_test(NAME ${test}:${name} COMMAND ${run})
                set_tests_properties(${test}:${name} PROPERTIES LABELS ${lane_labels} SKIP_RETURN_CODE 77)
                if(timeout)
                    set_tests_properties(${test}:${name} PROPERTIES TIMEOUT ${timeout})
                endif()
                kf_lane(${test}:${name} ${name})
            endif()
        endforeach()
        kf_lane(${test} ${first})
        if(KFUSE_SANITIZE AND NOT TARGET ${program})
            # Scripts start programs whose drivers abort on purpose and look at the signal.
            set_property(TEST ${test} APPEND PROPERTY
                ENVIRONMENT_MODIFICATION ASAN_OPTIONS=string_append::handle_abort=0)
        endif()
    endforeach()

    # The programs that take every device of a backend, on the GPU where there is one, or where one is demanded.
    if(EXISTS /dev/nvidiactl OR "$ENV{KFUSE_REQUIRE}" MATCHES "cuda")
        foreach(program IN ITEMS test_conformance test_softmax_axis_runs test_rope test_dropout_add test_cross_entropy
                test_elementwise test_elementwise_chain test_bias_gelu test_bias_gelu_backward test_geglu test_swiglu
                test_swiglu_backward)
            if(NOT TARGET ${program})
                continue()
            endif()
            add_test(NAME ${program}:cuda COMMAND ${program})
            set_tests_properties(${program}:cuda PROPERTIES LABELS cuda SKIP_RETURN_CODE 77 TIMEOUT 1800)
            kf_lane(${program}:cuda pocl)
            set_property(TEST ${program}:cuda APPEND PROPERTY ENVIRONMENT KFUSE_BACKEND=cuda KFUSE_REQUIRE=cuda)
        endforeach()
    endif()
endfunction()

kf_lanes()
