"""JAX, jitted. Its stream cannot be captured by torch: up to TOGETHER sets are one jitted program, each call tied to
the result of the one before so that none is drawn together with another, and many runs of it are timed by the host's
clock. SPDX-License-Identifier: Apache-2.0"""

import os

from provider import Call, Missing, Peer, Refused

EPS = 1e-5
TOGETHER = 20  # more take long to compile


def probe(world):
    if not hasattr(world.side, "device"):
        raise Missing("tensors reach JAX through torch, which is not installed")
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # the memory is torch's as well
    try:
        import jax
    except Exception as error:  # pylint: disable=broad-except
        raise Missing(f"JAX does not import: {error}") from error
    platform = jax.default_backend()
    if world.side.gpu != (platform == "gpu"):
        raise Missing(f"JAX here runs on {platform}")
    return f"{jax.__version__} ({platform})"


def formulas(jnp, jax):
    def wide(x):
        return x.astype(jnp.float32)

    def rms(x, weight):
        x = wide(x)
        return x * jax.lax.rsqrt((x * x).mean(-1, keepdims=True) + EPS) * wide(weight)

    def centred(x):
        return wide(x) - wide(x).mean(-1, keepdims=True)

    def add(x, residual, weight, first):
        total = x + residual
        return rms(first(total), weight).astype(x.dtype), total

    def cross_entropy(logits, target):
        log = jax.nn.log_softmax(wide(logits), -1)
        return -jnp.take_along_axis(log, target[:, None], 1)[:, 0]

    def cross_entropy_grad(logits, target):
        y = jax.nn.softmax(wide(logits), -1)
        right = jnp.arange(logits.shape[1])[None, :] == target[:, None]
        return cross_entropy(logits, target), (y - right).astype(logits.dtype)

    return {
        "elementwise": lambda x, y, z: jnp.exp(x * y + z),
        "elementwise_chain": lambda x: (x * (1 + 1 / 64) + 2 / 8) * (1 + 3 / 64),
        "softmax": lambda x: jax.nn.softmax(x, -1),
        "log_softmax": lambda x: jax.nn.log_softmax(x, -1),
        "layer_norm": lambda x, weight: rms(centred(x), weight).astype(x.dtype),
        "rms_norm": lambda x, weight: rms(x, weight).astype(x.dtype),
        "add_layer_norm": lambda x, residual, weight: add(x, residual, weight, centred),
        "add_rms_norm": lambda x, residual, weight: add(x, residual, weight, wide),
        "swiglu": lambda gate, up: (jax.nn.silu(wide(gate)) * wide(up)).astype(gate.dtype),
        "geglu": lambda gate, up: (jax.nn.gelu(wide(gate), approximate=False) * wide(up)).astype(gate.dtype),
        "bias_gelu": lambda x, bias: jax.nn.gelu(wide(x) + wide(bias), approximate=False).astype(x.dtype),
        "cross_entropy": cross_entropy,
        "cross_entropy_grad": cross_entropy_grad,
        "softmax_backward": lambda grad_y, y: y * (grad_y - (grad_y * y).sum(-1, keepdims=True)),
    }


def build(world, case, sets):
    import jax
    import jax.numpy as jnp
    function = formulas(jnp, jax).get(case.op.name)
    if not function:
        raise Refused(f"no {case.op.name} was written for JAX")
    torch, side = world.side.module, world.side
    names = [tensor.name for tensor in case.op.inputs]

    def given(tensor):
        return jax.dlpack.from_dlpack(tensor.int() if tensor.dtype == torch.int64 else tensor)
    inputs = [[given(data[name]) for name in names] for data in sets]
    side.wait()

    def program(all_inputs):
        results, before = [], None
        for one in all_inputs:
            if before is not None:
                one, before = jax.lax.optimization_barrier((one, before))
                results[-1] = before
            before = function(*one)
            results.append(before)
        return results
    program = jax.jit(program)
    together = min(TOGETHER, len(inputs))
    groups = [inputs[first:first + together] for first in range(0, len(inputs) - together + 1, together)]

    def walk():
        return [program(group) for group in groups]
    state = {"results": jax.block_until_ready(walk())}

    def batch():
        state["results"] = walk()

    def taken(found):
        found = found if isinstance(found, tuple) else (found,)
        return [torch.from_dlpack(f) for f in found]

    def left():
        return taken(jax.block_until_ready(state["results"][0][0]))
    return Call(lambda data: left(), how=f"jitted programs over {together} sets each, host clock", batch=batch,
                calls=together * len(groups),
                finish=lambda: jax.block_until_ready(state["results"]), left=left, keep=inputs)


PEERS = [Peer("jax", "JAX, jitted, on a stream of its own", probe, build, usual="gpu")]
