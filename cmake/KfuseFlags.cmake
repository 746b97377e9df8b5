# Compiler flags of our own targets. SPDX-License-Identifier: Apache-2.0

set(KFUSE_WARNINGS -Wall -Wextra -Wshadow -Wvla -Wpointer-arith -Wwrite-strings -Wstrict-prototypes
    -Wmissing-prototypes -Wformat=2 -Werror=implicit-function-declaration)
if(CMAKE_C_COMPILER_ID STREQUAL "GNU")
    list(APPEND KFUSE_WARNINGS -Wno-format-truncation) # sentences are cut on purpose
endif()
if(KFUSE_WERROR)
    list(APPEND KFUSE_WARNINGS -Werror)
endif()

# The reference counts its own rounding errors: no contraction of a*b+c behind its back.
add_compile_options(-ffp-contract=off)
# Empty, so that a file may define _GNU_SOURCE as well.
add_compile_definitions(_FILE_OFFSET_BITS=64 _GNU_SOURCE=)
if(KFUSE_SANITIZE)
    set(sanitize -fsanitize=${KFUSE_SANITIZE} -fno-sanitize-recover=undefined -fno-omit-frame-pointer)
    add_compile_options(${sanitize})
    add_link_options(${sanitize})
endif()
if(KFUSE_FUZZ)
    if(NOT CMAKE_C_COMPILER_ID STREQUAL "Clang")
        message(FATAL_ERROR "KFUSE_FUZZ needs clang: configure a fresh folder with -DCMAKE_C_COMPILER=clang")
    endif()
    add_compile_options(-fsanitize=fuzzer-no-link)
endif()

function(kfuse_flags target)
    target_compile_options(${target} PRIVATE ${KFUSE_WARNINGS})
endfunction()
