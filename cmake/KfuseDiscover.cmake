# Finds ops, backends, lessons and kernel texts by their names, refuses a kernel that has no twin, and writes
# the tables through which the C code finds them: registry.c, texts.c, lessons.c, <kfuse/ops.h>.
# The files are written at configure time and only when their content changes; the globs make a new or a
# vanished file configure again. SPDX-License-Identifier: Apache-2.0

# Names of ops/NAME.c, backends/NAME/NAME.c, lessons/NAME/lesson.c.
function(kfuse_stems out)
    file(GLOB files CONFIGURE_DEPENDS ${ARGN})
    set(stems)
    foreach(file IN LISTS files)
        cmake_path(GET file STEM LAST_ONLY stem)
        list(APPEND stems ${stem})
    endforeach()
    list(SORT stems)
    set(${out} ${stems} PARENT_SCOPE)
endfunction()

kfuse_stems(KFUSE_OPS ${PROJECT_SOURCE_DIR}/ops/*.c)

# The order in which "any backend" is tried: null never comes before a real one.
set(KFUSE_BACKENDS)
kfuse_stems(stems ${PROJECT_SOURCE_DIR}/backends/*/*.c)
foreach(stem IN LISTS stems)
    if(EXISTS ${PROJECT_SOURCE_DIR}/backends/${stem}/${stem}.c)
        list(APPEND KFUSE_BACKENDS ${stem})
    endif()
endforeach()
list(REMOVE_DUPLICATES KFUSE_BACKENDS)
if("null" IN_LIST KFUSE_BACKENDS)
    list(REMOVE_ITEM KFUSE_BACKENDS null)
    list(APPEND KFUSE_BACKENDS null)
endif()

# Lessons in the order of their numbers.
set(KFUSE_LESSONS)
file(GLOB files CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/lessons/*/lesson.c)
foreach(file IN LISTS files)
    set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${file})
    cmake_path(GET file PARENT_PATH folder)
    cmake_path(GET folder FILENAME name)
    file(STRINGS ${file} number REGEX "\\.number *= *[0-9]+")
    string(REGEX REPLACE ".*\\.number *= *([0-9]+).*" "\\1" number "${number}")
    list(APPEND KFUSE_LESSONS "${number}/${name}")
endforeach()
list(SORT KFUSE_LESSONS COMPARE NATURAL)
list(TRANSFORM KFUSE_LESSONS REPLACE "^.*/" "")

# ---- kernel texts -------------------------------------------------------------------------------

set(KFUSE_LANGUAGES cuda:cu opencl:cl) # folder:suffix
set(kfuse_texts)                       # paths below backends/, preludes first
set(kfuse_faults)

# The op that a kernel file belongs to: X.cu and X_*.cu are X's, the longest name wins.
function(kfuse_owner stem out)
    set(owner "")
    foreach(op IN LISTS KFUSE_OPS)
        string(LENGTH "${op}" length)
        string(LENGTH "${owner}" best)
        string(FIND "${stem}_" "${op}_" at)
        if(at EQUAL 0 AND length GREATER best)
            set(owner ${op})
        endif()
    endforeach()
    set(${out} "${owner}" PARENT_SCOPE)
endfunction()

set(all_stems)
foreach(language IN LISTS KFUSE_LANGUAGES)
    string(REGEX MATCH "(.+):(.+)" _ ${language})
    set(folder ${CMAKE_MATCH_1})
    set(suffix ${CMAKE_MATCH_2})
    set(kernels ${PROJECT_SOURCE_DIR}/backends/${folder}/kernels)
    file(GLOB files CONFIGURE_DEPENDS RELATIVE ${PROJECT_SOURCE_DIR}/backends ${kernels}/common/*.${suffix})
    list(SORT files)
    list(APPEND kfuse_texts ${files})
    file(GLOB files CONFIGURE_DEPENDS RELATIVE ${PROJECT_SOURCE_DIR}/backends ${kernels}/*.${suffix})
    list(SORT files)
    list(APPEND kfuse_texts ${files})
    kfuse_stems(stems_${folder} ${kernels}/*.${suffix})
    list(APPEND all_stems ${stems_${folder}})
endforeach()
list(APPEND all_stems ${KFUSE_OPS}) # an op without any kernel file is missed in every language
list(REMOVE_DUPLICATES all_stems)
list(SORT all_stems)

foreach(stem IN LISTS all_stems)
    kfuse_owner(${stem} owner)
    foreach(language IN LISTS KFUSE_LANGUAGES)
        string(REGEX MATCH "(.+):(.+)" _ ${language})
        set(name backends/${CMAKE_MATCH_1}/kernels/${stem}.${CMAKE_MATCH_2})
        list(FIND stems_${CMAKE_MATCH_1} ${stem} at)
        if(at GREATER_EQUAL 0 AND NOT owner)
            list(APPEND kfuse_faults "${name} belongs to no op: there is no ops/${stem}.c")
        elseif(at LESS 0 AND owner)
            list(APPEND kfuse_faults "${name} is missing: ${owner} needs it in every language")
        endif()
    endforeach()
endforeach()
if(kfuse_faults)
    list(JOIN kfuse_faults "\n    " lines)
    if(KFUSE_PARTIAL)
        message(WARNING "Kernels are not complete:\n    ${lines}")
    else()
        message(FATAL_ERROR "Kernels are not complete:\n    ${lines}\n"
            "While the files are being written, -DKFUSE_PARTIAL=ON builds all the same.")
    endif()
endif()

# ---- tables -------------------------------------------------------------------------------------

# kfuse_table(out TYPE table prefix names...): the declarations and the NULL-terminated table.
function(kfuse_table out type table prefix)
    set(declarations "")
    set(entries "")
    foreach(name IN LISTS ARGN)
        string(APPEND declarations "extern const ${type} ${prefix}${name};\n")
        string(APPEND entries "    &${prefix}${name},\n")
    endforeach()
    set(${out} "${declarations}const ${type} *const ${table}[] = {\n${entries}    NULL};\n" PARENT_SCOPE)
endfunction()

set(note "/* Generated by cmake/KfuseDiscover.cmake. */\n")
set(content "${note}#include \"core/backend.h\"\n#include \"core/op.h\"\n\n")
kfuse_table(ops kf_op kf_ops kf_op_ ${KFUSE_OPS})
kfuse_table(backends kf_backend kf_backends kf_backend_ ${KFUSE_BACKENDS})
file(CONFIGURE OUTPUT ${KFUSE_GENERATED}/registry.c CONTENT "${content}${ops}\n${backends}" @ONLY)

kfuse_table(lessons kf_lesson kf_lessons kf_lesson_ ${KFUSE_LESSONS})
file(CONFIGURE OUTPUT ${KFUSE_GENERATED}/lessons.c
    CONTENT "${note}#include \"lessons/lesson.h\"\n\n${lessons}" @ONLY)

set(content "${note}#ifndef KFUSE_OPS_H\n#define KFUSE_OPS_H\n\n")
foreach(op IN LISTS KFUSE_OPS)
    string(TOUPPER ${op} upper)
    string(APPEND content "#define KF_OP_${upper} \"${op}\"\n")
endforeach()
file(CONFIGURE OUTPUT ${KFUSE_GENERATED}/include/kfuse/ops.h CONTENT "${content}\n#endif\n" @ONLY)

# Texts go in as they are, through the assembler: no escaping, no limit on the length of a string.
set(content "${note}#include \"core/source.h\"\n#include <stddef.h>\n\n")
string(APPEND content [[
#define SYMBOL(name) ".globl " name "\n.hidden " name "\n" name ":\n"
#define TEXT(number, path)                                                                         \
    __asm__(".pushsection .rodata\n" SYMBOL("kf_text_" #number) ".incbin \"" path "\"\n" SYMBOL(   \
        "kf_text_end_" #number) ".byte 0\n.popsection\n");                                         \
    extern const char kf_text_##number[], kf_text_end_##number[]

]])
set(entries "")
set(number 0)
set(paths)
foreach(text IN LISTS kfuse_texts)
    string(REGEX MATCH "^([^/]+)/kernels/(common/)?(([^/]+)\\.[^./]+)$" _ ${text})
    set(folder ${CMAKE_MATCH_1})
    set(file ${CMAKE_MATCH_3})
    set(stem "\"${CMAKE_MATCH_4}\"")
    if(CMAKE_MATCH_2)
        set(stem NULL)
    endif()
    string(APPEND content "TEXT(${number}, \"${PROJECT_SOURCE_DIR}/backends/${text}\");\n")
    string(APPEND entries "    {.folder = \"${folder}\", .stem = ${stem}, .file = \"${file}\",\n"
        "     .begin = kf_text_${number}, .end = kf_text_end_${number}},\n")
    list(APPEND paths ${PROJECT_SOURCE_DIR}/backends/${text})
    math(EXPR number "${number} + 1")
endforeach()
string(APPEND content "\nconst kf_text kf_texts[] = {\n${entries}    {.folder = NULL}};\n")
file(CONFIGURE OUTPUT ${KFUSE_GENERATED}/texts.c CONTENT "${content}" @ONLY)
set_property(SOURCE ${KFUSE_GENERATED}/texts.c APPEND PROPERTY OBJECT_DEPENDS "${paths}")

set(KFUSE_GENERATED_SOURCES ${KFUSE_GENERATED}/registry.c ${KFUSE_GENERATED}/texts.c)
