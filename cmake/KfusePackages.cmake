# What others have made. Headers and libraries are looked for directly (CMAKE_PREFIX_PATH works, pkg-config
# is not needed), and what is missing is named with its Debian package. SPDX-License-Identifier: Apache-2.0

set(kfuse_missing)

function(kfuse_need found package purpose)
    if(NOT found)
        list(APPEND kfuse_missing "${package} (${purpose})")
        set(kfuse_missing "${kfuse_missing}" PARENT_SCOPE)
    endif()
endfunction()

# kfuse_library(NAME header library): the imported target kfuse::NAME where both are there. Debian has the
# header of libsmartcols in a folder of its own.
function(kfuse_library name header library)
    string(TOUPPER ${name} upper)
    find_path(KFUSE_${upper}_INCLUDE ${header} PATH_SUFFIXES libsmartcols)
    find_library(KFUSE_${upper}_LIBRARY ${library})
    mark_as_advanced(KFUSE_${upper}_INCLUDE KFUSE_${upper}_LIBRARY)
    if(KFUSE_${upper}_INCLUDE AND KFUSE_${upper}_LIBRARY)
        add_library(kfuse::${name} UNKNOWN IMPORTED)
        set_target_properties(kfuse::${name} PROPERTIES
            IMPORTED_LOCATION ${KFUSE_${upper}_LIBRARY}
            INTERFACE_INCLUDE_DIRECTORIES ${KFUSE_${upper}_INCLUDE})
    endif()
endfunction()

# libkfuse: headers only.
find_path(KFUSE_XXHASH_INCLUDE xxhash.h)
kfuse_need("${KFUSE_XXHASH_INCLUDE}" libxxhash-dev "xxhash.h, keys of the kernel cache")
find_path(KFUSE_OPENCL_INCLUDE CL/cl.h)
kfuse_need("${KFUSE_OPENCL_INCLUDE}" opencl-c-headers "CL/cl.h, types of the OpenCL backend")
find_path(KFUSE_RANDOM123_INCLUDE Random123/philox.h)
kfuse_need("${KFUSE_RANDOM123_INCLUDE}" librandom123-dev "Random123/philox.h, random inputs and dropout")

if(KFUSE_TOOLS)
    kfuse_library(jansson jansson.h jansson)
    kfuse_library(smartcols libsmartcols.h smartcols)
    kfuse_need("${KFUSE_JANSSON_LIBRARY}" libjansson-dev "JSON")
    kfuse_need("${KFUSE_SMARTCOLS_LIBRARY}" libsmartcols-dev "tables")
endif()

if(NOT KFUSE_TESTS STREQUAL "OFF")
    kfuse_library(cmocka cmocka.h cmocka)
endif()
set(KFUSE_WITH_TESTS OFF)
if(KFUSE_TESTS STREQUAL "AUTO")
    if(TARGET kfuse::cmocka)
        set(KFUSE_WITH_TESTS ON)
    else()
        message(STATUS "No tests: CMocka was not found (Debian: libcmocka-dev)")
    endif()
elseif(KFUSE_TESTS)
    kfuse_need("${KFUSE_CMOCKA_LIBRARY}" libcmocka-dev "tests")
    set(KFUSE_WITH_TESTS ON)
endif()

# The toolkit's own headers, against which a test compares ours. Nothing else may see them.
find_path(KFUSE_CUDA_INCLUDE cuda.h HINTS ENV CUDA_PATH ENV CUDA_HOME PATHS /usr/local/cuda /opt/cuda
    PATH_SUFFIXES include targets/x86_64-linux/include)
mark_as_advanced(KFUSE_XXHASH_INCLUDE KFUSE_OPENCL_INCLUDE KFUSE_RANDOM123_INCLUDE KFUSE_CUDA_INCLUDE)

if(kfuse_missing)
    list(JOIN kfuse_missing "\n    " lines)
    message(FATAL_ERROR "kfuse needs what was not found (Debian's package names):\n    ${lines}\n"
        "`scripts/setup` installs them; CMAKE_PREFIX_PATH finds them elsewhere. The library alone needs no "
        "more than headers: -DKFUSE_TOOLS=OFF -DKFUSE_TESTS=OFF.")
endif()
