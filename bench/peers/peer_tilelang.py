"""TileLang: the kernels of tilelang_kernels.py, compiled by NVRTC where cuda-bindings are here, else by nvcc; how many
threads and rows a block has is the fastest of a few. SPDX-License-Identifier: Apache-2.0"""

import importlib.util
import math
import os
import shutil

import timing
from provider import Call, Missing, Peer, Refused

EPS = 1e-5
HELD = 32768        # columns that a block keeps in registers: 32 of each of 1024 threads
NARROW = 1024       # columns up to which a block takes several rows
TYPES = {"f32": "float32", "f16": "float16", "bf16": "bfloat16"}


def backend():
    """What compiles: TileLang's name for it, "" = nothing does."""
    try:
        if importlib.util.find_spec("cuda.bindings.nvrtc"):
            return "nvrtc"
    except ImportError:
        pass
    return "tvm_ffi" if shutil.which("nvcc") else ""


def probe(world):
    if not world.side.gpu:
        raise Missing("TileLang's kernels of ours are for GPUs")
    os.environ.setdefault("TILELANG_PRINT_ON_COMPILATION", "0")
    try:
        import tilelang
    except Exception as error:  # pylint: disable=broad-except  # half an installation fails in many ways
        raise Missing(f"TileLang does not import: {(str(error).splitlines() or [repr(error)])[0]}") from error
    if not backend():
        raise Missing("TileLang compiles by NVRTC with cuda-bindings, or by nvcc, and neither is here")
    if not os.path.isfile(os.path.join(tilelang.env.CUDA_HOME, "include", "cuda_fp16.h")):
        raise Missing("TileLang finds no CUDA headers; CUDA_HOME names the folder that has include")
    return tilelang.__version__


# ---- plans: rows per block, columns or elements held, threads -----------------------------------------------

def power_of_two(count):
    return 1 << max(0, count - 1).bit_length()


def vector_of(cols, size):
    """Elements of one access that keeps to 16 bytes and ends with the row."""
    return math.gcd(cols, 16 // size)


def narrow_plans(rows, cols):
    width = power_of_two(cols)
    plans = []
    for threads, each in ((128, 8), (128, 16), (256, 8)):
        tall = min(max(1, threads * each // width), power_of_two(rows))
        plans.append((tall, width, min(threads, max(32, tall * width))))
    return list(dict.fromkeys(plans))


def wide_plans(cols, size):
    usual = min(max(power_of_two(cols) // 16, 64), 1024)
    plans = []
    for threads in (usual // 2, usual, usual * 2):
        step = threads * vector_of(cols, size)
        width = -(-cols // step) * step
        if threads <= 1024 and width <= threads * (32 if threads == 1024 else 64):
            plans.append((1, width, threads))
    return plans


def row_plans(case, size):
    rows, cols = case.sizes["rows"], case.sizes["cols"]
    return narrow_plans(rows, cols) if cols <= NARROW else wide_plans(cols, size)


def walk_plans(_case, _size):
    return [(1, threads * each, threads) for threads, each in ((256, 8), (512, 8), (1024, 8), (512, 16))]


def flat_plans(_case, _size):
    return [(1, threads * each, threads) for threads, each in ((256, 8), (256, 16), (512, 8))]


# ---- forms --------------------------------------------------------------------------------------------------

def row_form(kernels, case, dtype):
    """(make(plan), plans) of an op whose blocks are rows."""
    name, rows, cols = case.op.name, case.sizes["rows"], case.sizes["cols"]
    held = cols <= HELD
    if name in ("softmax", "log_softmax"):
        make = kernels.softmax_held if held else kernels.softmax_walked
        return lambda plan: make(rows, cols, dtype, plan, name == "log_softmax"), row_plans if held else walk_plans
    if name in ("cross_entropy", "cross_entropy_grad"):
        make = getattr(kernels, name)
        return lambda plan: make(rows, cols, dtype, plan), walk_plans
    if not held:
        raise Refused(f"our TileLang kernel of {name} holds rows of up to {HELD} columns, not {cols}")
    if name == "softmax_backward":
        return lambda plan: kernels.softmax_backward(rows, cols, dtype, plan), row_plans
    make = kernels.add_norm if name.startswith("add_") else kernels.norm
    return lambda plan: make(rows, cols, dtype, plan, EPS, name.endswith("layer_norm")), row_plans


ROWS = ("softmax", "log_softmax", "cross_entropy", "cross_entropy_grad", "softmax_backward", "layer_norm", "rms_norm",
        "add_layer_norm", "add_rms_norm")


def form_of(kernels, case):
    """(make(plan), plans(case, bytes per element), tensors are flat)."""
    name, dtype, count = case.op.name, TYPES[case.dtype], math.prod(case.shape)
    if name in ROWS:
        return (*row_form(kernels, case, dtype), False)
    if name in kernels.FORMULAS:
        return lambda plan: kernels.flat(name, count, dtype, plan), flat_plans, True
    if name == "bias_gelu":
        return lambda plan: kernels.bias_gelu(*case.shape, dtype, plan), flat_plans, False
    raise Refused(f"no {name} was written in TileLang")


def compiled(function, count):
    """`function` as a kernel, with indices as wide as its largest tensor needs."""
    import tilelang
    wide = {"tl.config_index_bitwidth": 64} if count >= 1 << 31 else None
    return tilelang.compile(function, execution_backend=backend(), target="cuda", pass_configs=wide)


def build(world, case, sets):
    import tilelang_kernels as kernels
    make, plans, flat = form_of(kernels, case)
    names = [tensor.name for tensor in case.op.tensors]
    choices = plans(case, 4 if case.dtype == "f32" else 2)
    if not world.side.gpu:
        choices = choices[:1]

    def runner(plan):
        made = []

        def run(data):
            if not made:
                made.append(compiled(make(plan), math.prod(case.shape)))
            made[0](*[data[name].reshape(-1) if flat else data[name] for name in names])
        return run
    place, run = timing.fastest(world.side, [runner(plan) for plan in choices], sets)
    tall, width, threads = choices[place]
    what = f"{tall} rows of {width}" if tall > 1 else f"{width} wide"
    return Call(run, how=f"{what}, {threads} threads, the fastest of {len(choices)}", stored=False)


PEERS = [Peer("tilelang", "TileLang, kernels of our own", probe, build)]
