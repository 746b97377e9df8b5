"""NumPy on the CPU: what there is without torch. SPDX-License-Identifier: Apache-2.0"""

from provider import Call, Missing, Peer, Refused, positional

EPS = 1e-5


def probe(world):
    if world.side.gpu:
        raise Missing("NumPy has no GPU")
    import numpy
    return numpy.__version__


def formulas(np):
    def softmax(x):
        power = np.exp(x - x.max(-1, keepdims=True))
        return power / power.sum(-1, keepdims=True)

    def log_softmax(x):
        shifted = x - x.max(-1, keepdims=True)
        return shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))

    def rms_norm(x, weight):
        return x / np.sqrt((x * x).mean(-1, keepdims=True) + x.dtype.type(EPS)) * weight

    def layer_norm(x, weight):
        return rms_norm(x - x.mean(-1, keepdims=True), weight)

    def cross_entropy(logits, target):
        return -log_softmax(logits.astype(np.float32))[np.arange(len(target)), target]

    def swiglu(gate, up):
        return gate / (1 + np.exp(-gate)) * up

    return {
        "softmax": softmax, "log_softmax": log_softmax, "rms_norm": rms_norm, "layer_norm": layer_norm,
        "cross_entropy": cross_entropy, "swiglu": swiglu,
        "elementwise": lambda x, y, z: np.exp(x * y + z),
        "elementwise_chain": lambda x: (x * x.dtype.type(1 + 1 / 64) + x.dtype.type(0.25)) * x.dtype.type(1 + 3 / 64),
        "add_rms_norm": lambda x, residual, weight: (rms_norm(x + residual, weight), x + residual),
        "add_layer_norm": lambda x, residual, weight: (layer_norm(x + residual, weight), x + residual),
        "softmax_backward": lambda grad_y, y: y * (grad_y - (grad_y * y).sum(-1, keepdims=True)),
    }


def build(world, case, _sets):
    import numpy
    function = formulas(numpy).get(case.op.name)
    if not function:
        raise Refused(f"NumPy has no {case.op.name}, and none was written here")
    if world.side.name == "numpy":
        return Call(positional(case, function))
    if case.dtype == "bf16":
        raise Refused("NumPy has no bf16")
    torch = world.side.module
    run = positional(case, lambda *tensors: function(*[tensor.numpy() for tensor in tensors]))

    def wrapped(data):
        found = run(data)
        return [torch.from_numpy(f) for f in (found if isinstance(found, tuple) else (found,))]
    return Call(wrapped)


PEERS = [Peer("numpy", "NumPy, one call per line of the formula", probe, build, usual="cpu")]
