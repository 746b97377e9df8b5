#!/usr/bin/env bash
# label: unit
# timeout: 300
# What `cmake --install` leaves behind: programs outside the tree find it through CMake and through pkg-config, link
# the shared library and the archive, and run; also when the installed tree was moved. Mistakes caught: a header that
# includes one of ours that is not installed; a path of the build folder in what was installed; an exported name that
# no header declares, or a declared one that is not exported; a name of ours that meets the program's own.
# SPDX-License-Identifier: Apache-2.0
set -euo pipefail
source=$(cd "$(dirname "$0")/.." && pwd)
build=${KFUSE_BUILD:-$source/build}
if grep -q '^KFUSE_SANITIZE:STRING=..*' "$build/CMakeCache.txt"; then
    echo "a sanitized library is for its own tests: consumers are built by the other lanes"
    exit 77
fi
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
fail() {
    echo "FAILED: $*" >&2
    exit 1
}

quietly() {
    "$@" >"$scratch/log" 2>&1 || {
        tail -20 "$scratch/log"
        fail "$*"
    }
}

# This build may still be going on elsewhere: a build of its own, the library alone.
# Distributions build everything with -flto.
quietly env CFLAGS="${CFLAGS-} -g -flto" cmake -S "$source" -B "$scratch/build" -G Ninja -DKFUSE_TOOLS=OFF -DKFUSE_TESTS=OFF
quietly cmake --build "$scratch/build"
quietly cmake --install "$scratch/build" --prefix "$scratch/first"
mv "$scratch/first" "$scratch/prefix"
lib=$(dirname "$(find "$scratch/prefix" -name libkfuse.so)")

# Names: exported = declared.
sed -n 's/^KF_API .*[ *]\(kf_[a-z0-9_]*\)(.*/\1/p' "$scratch"/prefix/include/kfuse/*.h | sort >"$scratch/declared"
nm -D --defined-only "$lib/libkfuse.so" | awk '$2 != "A" { sub(/@.*/, "", $3); print $3 }' | sort >"$scratch/exported"
nm -g --defined-only "$lib/libkfuse.a" | awk 'NF == 3 { print $3 }' | sort >"$scratch/archived"
[ "$(wc -l <"$scratch/declared")" -ge 30 ] || fail "only $(wc -l <"$scratch/declared") declarations were found"
for form in exported archived; do
    diff "$scratch/declared" "$scratch/$form" || fail "names declared (<) and $form (>) differ"
done
if grep -rIl -e "$scratch/build" -e "$source" "$scratch/prefix"; then
    fail "a path of this machine's build in what was installed"
fi
needed=$(objdump -p "$lib/libkfuse.so" | awk '$1 == "NEEDED" { print $2 }' | sort | tr '\n' ' ')
for library in $needed; do
    case $library in
    libc.so.* | libm.so.* | libdl.so.* | libpthread.so.* | ld-linux*) ;;
    *) fail "libkfuse.so needs $library" ;;
    esac
done

mkdir "$scratch/consumer"
cat >"$scratch/consumer/main.c" <<'END'
#include <kfuse/calls.h>
#include <stdio.h>
#include <stdlib.h>

static void check(kf_status status)
{
    if (status != KF_OK) {
        fprintf(stderr, "%s: %s\n", kf_status_name(status), kf_error());
        exit(1);
    }
}

const char *cuda_check = "a name that libkfuse has inside";

/* Softmax of 4 rows of 1000 floats on the null device: every call of the header's first example. */
int main(void)
{
    const int64_t size[2] = {4, 1000};
    kf_device_desc where = {.backend = "null"};
    kf_device *device;
    kf_queue *queue;
    kf_buffer *buffer;
    kf_problem *problem;
    kf_plan *plan;
    kf_exec *exec;
    kf_tensor tensor;
    check(kf_device_open(&where, &device));
    check(kf_queue_open(device, NULL, &queue));
    check(kf_buffer_open(device, &(kf_buffer_desc){.bytes = 16000}, &buffer));
    check(kf_tensor_contiguous(KF_F32, 2, size, &tensor));
    check(kf_problem_open("softmax", &problem));
    check(kf_problem_tensor(problem, "x", &tensor));
    check(kf_problem_tensor(problem, "y", &tensor));
    check(kf_plan_open(problem, NULL, kf_device_target(device), &plan));
    check(kf_prepare(plan, device, &exec));
    kf_binding binding[2] = {{.buffer = buffer}, {.buffer = buffer}}; /* in place */
    check(kf_run(exec, queue, binding, NULL));
    kf_calls *calls;
    const kf_operand operand = {.buffer = buffer, .tensor = tensor};
    check(kf_calls_open(queue, 0, &calls));
    check(kf_softmax(calls, &operand, &operand, NULL));
    kf_calls_close(calls);
    check(kf_queue_finish(queue));
    const kf_cost cost = kf_plan_cost(plan);
    printf("kfuse %s: %lld launches, %lld bytes\n", kf_version(), (long long)cost.launches,
           (long long)(cost.bytes_read + cost.bytes_written));
    kf_exec_close(exec);
    kf_plan_close(plan);
    kf_problem_close(problem);
    kf_buffer_close(buffer);
    kf_queue_close(queue);
    kf_device_close(device);
    return cuda_check[0] == 'a' ? 0 : 1;
}
END
cat >"$scratch/consumer/CMakeLists.txt" <<'END'
cmake_minimum_required(VERSION 3.25)
project(consumer C)
find_package(kfuse 0.1 REQUIRED)
add_executable(shared main.c)
target_link_libraries(shared PRIVATE kfuse::kfuse)
add_executable(static main.c)
target_link_libraries(static PRIVATE kfuse::static)
END
expected="kfuse $(sed -n 's/.*KF_VERSION_STRING "\(.*\)"/\1/p' "$source/include/kfuse/kfuse.h"): 1 launches, 32000 bytes"
expect() { # what, command...
    local what=$1 said
    shift
    said=$("$@") || fail "the consumer $what does not run"
    [ "$said" = "$expected" ] || fail "the consumer $what said '$said', not '$expected'"
}
quietly cmake -S "$scratch/consumer" -B "$scratch/consumer/build" -DCMAKE_PREFIX_PATH="$scratch/prefix"
quietly cmake --build "$scratch/consumer/build"
expect "of find_package, shared," "$scratch/consumer/build/shared"
expect "of find_package, static," "$scratch/consumer/build/static"

if command -v pkg-config >/dev/null; then
    read -ra flags < <(PKG_CONFIG_PATH=$lib/pkgconfig pkg-config --cflags --libs kfuse)
else # the file says the same to a reader
    echo "no pkg-config here: kfuse.pc is read by hand"
    grep -q '^Libs: -L[$]{libdir} -lkfuse' "$lib/pkgconfig/kfuse.pc" || fail "kfuse.pc"
    flags=("-I$scratch/prefix/include" "-L$lib" -lkfuse)
fi
cc -std=c11 -Wall -Werror "$scratch/consumer/main.c" -o "$scratch/consumer/pc" "${flags[@]}" || fail "pkg-config"
expect "of pkg-config" env LD_LIBRARY_PATH="$lib" "$scratch/consumer/pc"
if command -v c++ >/dev/null; then # the headers are for C++ as well
    printf '#include <kfuse/calls.h>\nint main() { return (int)kf_softmax_defaults().axis + 1; }\n' >"$scratch/main.cc"
    c++ -std=c++11 -Wall -Wextra -pedantic -Werror "$scratch/main.cc" -o "$scratch/cc" "${flags[@]}" || fail "C++"
    LD_LIBRARY_PATH=$lib "$scratch/cc" || fail "the defaults, read from C++"
fi
echo "consumers of the shared library, the archive and pkg-config ran: $expected"
