#!/bin/bash
# label: unit
# timeout: 300
# The kfuse command without any device: exit codes, and sentences that name what was meant. Also a driver that
# crashes and one that hangs, both in the child that asks them.
# SPDX-License-Identifier: Apache-2.0
set -u
kfuse=${KFUSE_BUILD:?}/kfuse
[ -x "$kfuse" ] || { echo "no $kfuse"; exit 77; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir "$work/none"
for name in $(env | sed -n 's/^\(KFUSE_[A-Z_]*\)=.*/\1/p'); do unset "$name"; done
export OCL_ICD_VENDORS=$work/none OCL_ICD_FILENAMES='' CUDA_VISIBLE_DEVICES='' XDG_CACHE_HOME=$work/cache
export LC_ALL=C.UTF-8
failed=0

# expect CODE 'words that one of the streams must hold' ARGUMENT...
expect() {
    local code=$1 words=$2 text got
    shift 2
    text=$("$kfuse" "$@" 2>&1 < /dev/null)
    got=$?
    if [ "$got" -ne "$code" ] || ! grep -qF -- "$words" <<< "$text"; then
        printf 'kfuse %s\n  exit %s, expected %s and "%s"\n%s\n' "$*" "$got" "$code" "$words" "$text"
        failed=1
    fi
}

# usage
expect 2 'Usage: kfuse'
expect 0 'Usage: kfuse' --help
expect 0 'Usage: kfuse' help
expect 0 'kfuse 0.' version
expect 0 'kfuse 0.' --version
expect 0 'Shared options' bench --help
expect 0 'Shared options' bench -h
expect 0 '--processes' help bench
expect 2 "did you mean 'bench'" bnech
expect 2 "unknown option 'shpae'; did you mean 'shape'" bench softmax --shpae=4x4
expect 2 'Choices: f32, f16, bf16' explain softmax --dtype=f31
expect 2 "unknown op 'sofmax'; did you mean 'softmax'" bench sofmax
expect 2 'which op?' bench
expect 2 "unknown variant 'fusde'; did you mean 'fused'" explain softmax --variant=fusde
expect 2 "unknown backend 'cdua'; did you mean 'cuda'" bench softmax --backend=cdua
expect 2 "unknown backend 'opncl'" bench softmax --backend=cuda,opncl
expect 2 "unknown backend 'opncl'" bench softmax --device=opncl:0
expect 2 "unknown lesson 'simple_fuson'; did you mean 'simple_fusion'" lesson simple_fuson
expect 2 'unknown cache command' cache shwo
expect 2 'unknown colour' devices --color=pink
expect 2 '--samples=1 is not a whole number from 3' bench softmax --samples=1
expect 2 'run takes one op' run softmax elementwise

# shapes, knobs, attributes, cases
expect 2 'is not a shape' explain softmax --shape=4096y16
expect 2 'is not a shape' explain softmax --shape=4096x
expect 2 'is not a shape' explain softmax --shape=
expect 2 'is not a shape' explain softmax --shape=-1x4
expect 2 'is not a shape' explain softmax --shape=99999999999999999999x4
expect 2 'needs 2 sizes' explain softmax --shape=4096
expect 2 'overflows' explain softmax --shape=4611686018427387904x4x4
expect 2 '' explain softmax --shape=4611686018427387904x4611686018427387904
expect 0 '4×1024 f32' explain softmax --shape='2-8*2x1024'
expect 0 '6×1024 f32' explain softmax --shape='2-6+2x1024'
expect 0 '6×1024 f32' explain softmax --shape=2x3x1024
expect 0 '6144 f32' explain elementwise --shape=2x3x1024
expect 2 'unknown knob' explain softmax --set BLOKC=256
expect 2 'Choices:' explain softmax --set BLOCK=7
expect 2 '--set wants NAME=VALUE' explain softmax --set BLOCK
expect 2 'unknown attribute' explain softmax --attr nothing=1
expect 2 "unknown op 'nothing'" explain --case='nothing fused f32' softmax

expect 0 '4×32768 f32' explain --case='softmax fused f32 rows=4 cols=32768'
expect 0 'optional input' explain layer_norm --with=weight,bias
expect 2 "unknown optional tensor 'wieght'" explain layer_norm --with=wieght
expect 2 'axis=5' explain layer_norm --attr axis=5
expect 0 '64×1000×33 f32' explain softmax --shape=64x1000x33 --attr=axis=1
expect 0 'softmax_axis_fused' explain log_softmax --shape=4x16x1000x33 --attr=axis=-2
expect 0 '1×1000×33 f32' explain softmax --shape=1000x33 --attr=axis=0
expect 0 '64000×33 f32' explain softmax --shape=64x1000x33 --attr=axis=-1
expect 0 '64×1000×33 f32' explain --case='softmax fused f32 rows=64 cols=1000 inner=33'
expect 2 'axis=3: --shape has 3 sizes' explain softmax --shape=64x1000x33 --attr axis=3
expect 2 'axis=0: a case of op softmax' explain --case='softmax fused f32 rows=64 cols=1000 axis=0'

# refused before anything is opened or printed, an existing file left alone
silent() { # CODE ARGUMENT...: nothing on standard output
    local code=$1 text got
    shift
    text=$("$kfuse" "$@" 2> /dev/null < /dev/null)
    got=$?
    if [ "$got" -ne "$code" ] || [ -n "$text" ]; then
        printf 'kfuse %s\n  exit %s, expected %s and no output:\n%s\n' "$*" "$got" "$code" "$text"
        failed=1
    fi
}
huge=4611686018427387904x4611686018427387904
silent 2 explain softmax --shape=$huge
silent 2 bench softmax --shape=$huge
silent 2 explain softmax --shape=1073741824x1073741824
silent 2 explain softmax --shape=8x8,4096
silent 2 explain --case='softmax fused f32 rows=4611686018427387904 cols=4'
silent 2 explain --case='softmax fused f32 rows=4 cols=4 BLOCK=7'
silent 2 explain softmax elementwise --set BLOCK=1
echo old > "$work/old"
expect 2 "softmax 1073741824×1073741824 f32: tensor 'x' has too many" \
    bench softmax --shape=1073741824x1073741824 -o "json:$work/old" -o "jsonl:$work/new"
expect 2 'there is no output format' bench softmax -o jsno
expect 2 "'-o json:$work/old' and '-o table:$work/none/../old' write to the same place" \
    bench softmax -o "json:$work/old" -o "table:$work/none/../old"
expect 2 'write to the same place' bench softmax -o "json:$work/new" -o "jsonl:$work/./new"
ln -s old "$work/link"
expect 2 'write to the same place' bench softmax -o "json:$work/old" -o "table:$work/link"
expect 2 'only one -o may go to standard output' bench softmax -o json -o table
expect 2 'write to the same place' bench softmax -o json -o table:/dev/stdout
if [ "$(cat "$work/old")" != old ] || [ -e "$work/new" ]; then
    echo 'a refused command wrote a file'
    failed=1
fi

# knobs of some variants only
expect 2 'changes nothing in fused_cpu: it is a knob of unfused, fused' \
    explain softmax --variant=fused_cpu --set THREADS_PER_ROW=4
expect 0 '--set CLUSTER is for fused_cluster; without it: unfused' explain softmax --set CLUSTER=4
expect 0 'without it: softmax fused_cluster, softmax fused_split, softmax fused_cpu, elementwise' \
    explain softmax elementwise --set THREADS_PER_ROW=4

# lists, and words that are there twice
expect 2 'has an empty place between its commas' explain softmax --dtype=f32,,f16
expect 2 'has an empty place between its commas' explain softmax --dtype=f32,
expect 2 'has an empty place between its commas' explain softmax --variant=,fused
[ "$("$kfuse" explain softmax softmax --shape=8x8,8x8 --dtype=f32,f32 | grep -c 'planned for')" -eq 1 ] ||
    { echo 'a case named twice is there twice'; failed=1; }

# options that a command would not heed
expect 2 'explain measures nothing' explain softmax -o json
expect 2 "unknown option 'shape'" devices --shape=4x4
expect 2 'invalid option' list -o json
KFUSE_SHAPE=4x4 KFUSE_FORMAT=json expect 0 'softmax' list

# devices: what no machine has is 2, what this one has not is 3
expect 2 "'cuda:x' is no device" bench softmax --device=cuda:x
expect 2 'is no device' bench softmax --device=opencl:
expect 3 "did you mean 'null:0'? These are:" bench softmax --device=null:1

# without a device
expect 0 'Next:' doctor
expect 0 'opencl' devices
expect 0 '"backends"' devices --json
expect 0 'softmax' list
expect 0 'simple_fusion' lesson
expect 0 'VARIANT' explain softmax
expect 0 'at most' explain softmax --backend=null
expect 3 'kfuse doctor' bench softmax --shape=8x8
expect 3 'kfuse doctor' lesson simple_fusion
expect 3 'kfuse doctor' lesson layer_norm
expect 0 'planned for a generic GPU' lesson memory_analysis --simulator=none
expect 0 'layer_norm fused' lesson memory_analysis layer_norm --variant=fused --shape=16x64 --simulator=none
expect 3 '' lesson memory_analysis --backend=opencl
expect 3 '' bench softmax --backend=opencl --shape=8x8
expect 3 '' bench softmax --backend=cuda --shape=8x8
expect 3 '' bench softmax --backend=null,opencl --shape=8x8
expect 3 '' bench softmax --device=cuda:0,opencl:0.0
expect 3 'no device' bench softmax --device=null:7
expect 3 'seen through two backends' compare softmax

# run: names of tensors come first
expect 2 "needs its input 'x'" run softmax --output=y.npy
expect 2 "needs its output 'y'" run softmax --input=x.npy
expect 2 "unknown input 'xx'" run softmax --input=xx=x.npy --output=y.npy
expect 2 "output 'y' names no file" run softmax --input=x.npy --output=
expect 2 "input 'x' names no file" run softmax --input=x= --output=y.npy
expect 5 'cannot write /nowhere/y.npy' run softmax --input=x.npy --output=/nowhere/y.npy
expect 2 'is given twice' run softmax --input=x.npy --input=x=b.npy --output=y.npy
expect 2 'has several inputs' run elementwise --input=a.npy --output=o.npy
expect 2 'takes its shapes from the arrays' run softmax --input=x.npy --output=y.npy --shape=4x4

# environment twins: option > environment > default
KFUSE_DTYPE=f31 expect 2 "unknown dtype 'f31'" explain softmax
KFUSE_DTYPE=f31 expect 0 ' f16,' explain softmax --dtype=f16
KFUSE_SHAPE=16x32 expect 0 '16×32' explain softmax
KFUSE_SET=BLOKC=1 expect 2 'unknown knob' explain softmax
KFUSE_BACKEND=cdua expect 2 'unknown backend' bench softmax
LC_ALL=C expect 0 '16x32' explain softmax --shape=16x32

# a driver that aborts while it is loaded, and one that hangs: found by the child, told, survived
fake_driver() {
    mkdir -p "$work/$1"
    printf '#include <stdlib.h>\n#include <unistd.h>\n__attribute__((constructor)) static void f(void) { %s; }\n' \
        "$2" > "$work/$1.c"
    "${CC:-cc}" -shared -fPIC -o "$work/$1.so" "$work/$1.c" && echo "$work/$1.so" > "$work/$1/$1.icd"
}
if ldconfig -p | grep -q libOpenCL.so.1 && fake_driver crash 'abort()' && fake_driver hang 'for (;;) pause()'; then
    OCL_ICD_VENDORS=$work/crash expect 0 'crashed (Aborted)' devices
    OCL_ICD_VENDORS=$work/crash expect 0 'crashed (Aborted)' doctor
    OCL_ICD_VENDORS=$work/crash expect 3 'crashed (Aborted)' bench softmax --backend=opencl --shape=8x8
    OCL_ICD_VENDORS=$work/hang expect 0 'did not answer within 20 s' devices
else
    echo 'no OpenCL loader or no compiler: drivers that crash were not tried'
fi
[ $failed -eq 0 ] && echo 'all as expected'
exit $failed
