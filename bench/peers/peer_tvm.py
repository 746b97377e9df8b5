"""TVM: operations in its tensor expressions, softmax from its own library (topi), under dlight, its default schedules
for GPUs. Nothing was tuned by hand or by search. SPDX-License-Identifier: Apache-2.0"""

import importlib.util
import math
import os
import shutil
import sys

from provider import Call, Missing, Peer, Refused

EPS = 1e-5
TYPES = {"f32": "float32", "f16": "float16", "bf16": "bfloat16"}
F32 = "float32"


def tvm_module():
    try:
        import tvm
        import tvm.s_tir.dlight
    except Exception as error:  # pylint: disable=broad-except  # half an installation fails in many ways
        raise Missing(f"TVM does not import: {(str(error).splitlines() or [repr(error)])[0]}") from error
    return tvm


def probe(world):
    if not world.side.gpu:
        raise Missing("TVM takes part on GPUs")
    if any(name.split(".")[0] == "tilelang" for name in sys.modules):
        raise Missing("TileLang has loaded a TVM of its own into this process; in another one: --peers=tvm")
    tvm = tvm_module()
    if tvm.get_global_func("target.build.cuda", allow_missing=True) is None:
        raise Missing(f"TVM {tvm.__version__} was built without CUDA: it has no target.build.cuda")
    if tvm.get_global_func("target.build.llvm", allow_missing=True) is None:
        raise Missing(f"TVM {tvm.__version__} was built without LLVM, which its launching code needs")
    if not tvm.runtime.enabled("cuda"):
        raise Missing(f"TVM {tvm.__version__} has no CUDA runtime that loads here")
    compiler(tvm)
    return tvm.__version__


def compiler(tvm):
    """TVM asks the environment whether NVRTC or nvcc compiles, and looks for CUDA's headers in either case."""
    try:
        found = importlib.util.find_spec("cuda.bindings.nvrtc")
    except ImportError:
        found = None
    if not found and not shutil.which("nvcc"):
        raise Missing("TVM compiles by NVRTC with cuda-bindings, or by nvcc, and neither is here")
    os.environ.setdefault("TVM_CUDA_COMPILE_MODE", "nvrtc" if found else "nvcc")
    try:
        tvm.support.nvcc.find_cuda_path()
    except RuntimeError as error:
        raise Missing("TVM finds no CUDA headers; CUDA_PATH names the folder that has include") from error


# ---- operations in tensor expressions: tensors in, tensors out ----------------------------------------------

class Expressions:
    """What the operations are made of."""

    def __init__(self, tvm, dtype, index):
        self.te, self.topi, self.tirx, self.dtype, self.index = tvm.te, tvm.topi, tvm.tirx, dtype, index

    def wide(self, x):
        return x if x.dtype == F32 else self.topi.cast(x, F32)

    def narrow(self, x):
        return x if self.dtype == F32 else self.topi.cast(x, self.dtype)

    def row_sum(self, x):
        """And how many columns were added."""
        cols = x.shape[1]
        k = self.te.reduce_axis((self.tirx.const(0, self.index), cols), name="k")
        return self.te.compute((x.shape[0],), lambda i: self.te.sum(x[i, k], axis=k)), cols

    def centred(self, x):
        total, cols = self.row_sum(x)
        return self.te.compute(x.shape, lambda i, j: x[i, j] - total[i] / self.tirx.Cast(F32, cols))

    def rms(self, x, weight):
        total, cols = self.row_sum(self.te.compute(x.shape, lambda i, j: x[i, j] * x[i, j]))
        return self.te.compute(x.shape, lambda i, j: x[i, j] * weight[j] * self.tirx.rsqrt(
            total[i] / self.tirx.Cast(F32, cols) + self.tirx.const(EPS, F32)))

    def norm(self, x, weight, centred):
        return self.narrow(self.rms(self.centred(x) if centred else x, self.wide(weight)))

    def each(self, function, *inputs):
        shape = inputs[0].shape
        wide = [self.wide(x) for x in inputs]
        return self.narrow(self.te.compute(shape, lambda *at: function(*[
            x(*at[len(at) - len(x.shape):]) for x in wide])))

    def gelu(self, x):
        return x * (1 + self.tirx.erf(x * math.sqrt(0.5))) * 0.5

    def silu(self, x):
        return x / (1 + self.tirx.exp(-x))


OPERATIONS = {
    "softmax": lambda e, x: e.narrow(e.topi.nn.softmax(e.wide(x))),
    "log_softmax": lambda e, x: e.narrow(e.topi.nn.log_softmax(e.wide(x))),
    "layer_norm": lambda e, x, weight: e.norm(e.wide(x), weight, True),
    "rms_norm": lambda e, x, weight: e.norm(e.wide(x), weight, False),
    "add": lambda e, x, residual: e.each(lambda a, b: a + b, x, residual),
    "swiglu": lambda e, gate, up: e.each(lambda a, b: e.silu(a) * b, gate, up),
    "geglu": lambda e, gate, up: e.each(lambda a, b: e.gelu(a) * b, gate, up),
    "bias_gelu": lambda e, x, bias: e.each(lambda a, b: e.gelu(a + b), x, bias),
    "elementwise": lambda e, x, y, z: e.each(lambda a, b, c: e.tirx.exp(a * b + c), x, y, z),
    "elementwise_chain": lambda e, x: e.each(lambda a: (a * (1 + 1 / 64) + 2 / 8) * (1 + 3 / 64), x),
}


def stages_of(case):
    """[(operation, its tensors by name)]: a norm of a sum is two, as default schedules take one sum over rows each."""
    name = case.op.name
    if name in ("add_layer_norm", "add_rms_norm"):
        return [("add", ("x", "residual", "residual_out")), (name[4:], ("residual_out", "weight", "y"))]
    if name not in OPERATIONS:
        raise Refused(f"no {name} was written in TVM's expressions")
    return [(name, tuple(tensor.name for tensor in case.op.tensors))]


def function_of(tvm, case, operation, names):
    """What is to be computed, without a schedule; the last tensor is the output."""
    index = "int64" if math.prod(case.shape) >= 1 << 31 else "int32"
    shapes = {tensor.name: [tvm.tirx.IntImm(index, size) for size in case.shape_of(tensor)]
              for tensor in case.op.tensors}
    inputs = [tvm.te.placeholder(shapes[name], TYPES[case.dtype], name) for name in names[:-1]]
    output = OPERATIONS[operation](Expressions(tvm, TYPES[case.dtype], index), *inputs)
    return tvm.IRModule({"main": tvm.te.create_prim_func(inputs + [output]).with_attr("global_symbol", "main")})


def scheduled(tvm, module, target):
    """Under the first default schedule that takes it."""
    gpu = tvm.s_tir.dlight.gpu
    with target:
        return tvm.s_tir.dlight.ApplyDefaultSchedule(gpu.Reduction(), gpu.GeneralReduction(), gpu.Fallback())(module)


def compiled(tvm, module, target):
    module = scheduled(tvm, module, target)
    with target:  # the compiler's caller asks for the current one
        return tvm.compile(module, target)["main"]


def target_of(tvm, torch):
    """The GPU, by what dlight asks of it."""
    major, minor = torch.cuda.get_device_capability()
    return tvm.target.Target({"kind": "cuda", "arch": f"sm_{major}{minor}", "max_threads_per_block": 1024,
                              "max_shared_memory_per_block": 49152, "thread_warp_size": 32}, host={"kind": "llvm"})


def build(world, case, sets):
    import tvm_ffi
    tvm = tvm_module()
    target = target_of(tvm, world.side.module)
    stages = [(compiled(tvm, function_of(tvm, case, operation, names), target), names)
              for operation, names in stages_of(case)]

    def run(data):
        with tvm_ffi.use_torch_stream():
            for function, names in stages:
                function(*[data[name] for name in names])
    run(sets[0])  # loads: not while a graph is captured
    return Call(run, how="dlight, its default schedules", stored=False, keep=stages)


PEERS = [Peer("tvm", "TVM under its default schedules", probe, build)]
