"""Libraries of ready kernels, where they are installed: QuACK, Liger. And the place of one that has nothing ready for
kfuse's operations yet. SPDX-License-Identifier: Apache-2.0"""

import importlib
import importlib.metadata

from provider import Call, Missing, Peer, Refused, positional

EPS = 1e-5


def probe(module, package):
    def found(world):
        if not world.side.gpu:
            raise Missing(f"{package} needs a GPU")
        try:
            importlib.import_module(module)
        except Exception as error:  # pylint: disable=broad-except  # half an installation fails in many ways
            words = (str(error).splitlines() or [repr(error)])[0]
            raise Missing(f"{package} does not import: {words}") from error
        try:
            return importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            return "version unknown"
    return found


def choose(name, functions, case):
    if case.op.name not in functions:
        raise Refused(f"{name} has no {case.op.name}")
    return functions[case.op.name]


# ---- QuACK --------------------------------------------------------------------------------------------------

QUACK = ("softmax", "softmax_backward", "rms_norm", "layer_norm", "add_rms_norm", "cross_entropy",
         "cross_entropy_grad", "rms_norm_backward")


def quack(_world, case, sets):
    # by name: the package has functions of the same names in the modules' places
    cross_entropy, rmsnorm, softmax = (
        importlib.import_module(f"quack.{name}") for name in ("cross_entropy", "rmsnorm", "softmax"))
    # its layer norm takes a weight in f32 only
    weights = {data["weight"].data_ptr(): data["weight"].float() for data in sets if "weight" in data}

    def layer_norm(x, weight):
        return rmsnorm.layernorm_fwd(x, weights[weight.data_ptr()], eps=EPS)

    def add_rms_norm(x, residual, weight):
        return rmsnorm.rmsnorm_fwd(x, weight, residual=residual, eps=EPS)[:2]

    def rms_backward(grad_y, x, weight, rstd):
        return rmsnorm.rmsnorm_bwd(x, weight, grad_y, rstd)[:2]

    functions = {
        "softmax": softmax.softmax_fwd,
        "softmax_backward": softmax.softmax_bwd,
        "rms_norm": lambda x, weight: rmsnorm.rmsnorm_fwd(x, weight, eps=EPS)[0],
        "layer_norm": layer_norm,
        "add_rms_norm": add_rms_norm,
        "cross_entropy": cross_entropy.cross_entropy_fwd,
        "cross_entropy_grad": lambda x, target: cross_entropy.cross_entropy_fwd(x, target, return_dx=True),
        "rms_norm_backward": rms_backward,
    }
    how = "weight in f32, as it demands" if case.op.name == "layer_norm" else ""
    return Call(positional(case, choose("QuACK", functions, case)), how=how, keep=weights)


# ---- Liger --------------------------------------------------------------------------------------------------

def liger(world, case, sets):
    def part(name):
        return importlib.import_module(f"liger_kernel.ops.{name}")

    zeros = world.side.module.zeros_like
    bias = {data["weight"].data_ptr(): zeros(data["weight"]) for data in sets if "weight" in data}

    def entropy(logits, target):
        found = part("cross_entropy").LigerCrossEntropyFunction.apply(logits, target, None, -100, 0.0, 0.0, "none")
        return found[0] if isinstance(found, tuple) else found

    functions = {
        "softmax": lambda x: part("softmax").LigerSoftmaxFunction.apply(x),
        "rms_norm": lambda x, weight: part("rms_norm").LigerRMSNormFunction.apply(x, weight, EPS),
        "layer_norm": lambda x, weight: part("layer_norm").LigerLayerNormFunction.apply(
            x, weight, bias[weight.data_ptr()], EPS),
        "add_rms_norm": lambda x, residual, weight: part("fused_add_rms_norm").LigerFusedAddRMSNormFunction.apply(
            x, residual, weight, EPS),
        "swiglu": lambda gate, up: part("swiglu").LigerSiLUMulFunction.apply(gate, up),
        "cross_entropy": entropy,
    }
    if case.op.name == "cross_entropy_grad":
        raise Refused("Liger writes the gradient over the logits, which the others still need")
    if case.op.name == "geglu":
        raise Refused("Liger's GEGLU is the tanh form")
    how = "with a bias of zeros, as it demands" if case.op.name == "layer_norm" else ""
    return Call(positional(case, choose("Liger", functions, case)), how=how, keep=bias)


# ---- a place ------------------------------------------------------------------------------------------------

def attention_only(_world, case, _sets):
    raise Refused(f"it has attention, which kfuse does not have yet, not {case.op.name}")


PEERS = [
    Peer("quack", "QuACK", probe("quack", "quack-kernels"), quack, ops=QUACK),
    Peer("liger", "Liger", probe("liger_kernel", "liger-kernel"), liger),
    Peer("flash_attn", "FlashAttention: a place kept for attention", probe("flash_attn", "flash-attn-4"),
         attention_only, usual=""),
]
