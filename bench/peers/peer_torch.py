"""torch: eager composition, its fused functions, and torch.compile of either. SPDX-License-Identifier: Apache-2.0"""

from provider import Call, Missing, Peer, Refused, positional


def probe(world):
    if not hasattr(world.side, "device"):
        raise Missing("torch is not installed")
    return world.side.version


def compositions():
    import compositions as module
    return module


def eager(_world, case, _sets):
    return Call(positional(case, compositions().ALL[case.op.name]))


def fused_function(case):
    function = compositions().FUSED.get(case.op.name)
    if not function:
        raise Refused(f"torch has no function of its own for {case.op.name}")
    return function


def fused(_world, case, _sets):
    return Call(positional(case, fused_function(case)))


def compiled(function):
    def build(world, case, sets):
        torch = world.side.module
        for limit in ("recompile_limit", "cache_size_limit", "accumulated_recompile_limit",
                      "accumulated_cache_size_limit"):
            if hasattr(torch._dynamo.config, limit):  # one program per shape, however many shapes
                setattr(torch._dynamo.config, limit, 100000)
        call = Call(positional(case, torch.compile(function(case), dynamic=False, fullgraph=True)))
        call.run(sets[0])
        return call
    return build


def compiled_fused(world, case, sets):
    if case.op.name in ("cross_entropy_grad", "rms_norm_backward", "layer_norm_backward", "softmax_backward"):
        raise Refused("torch.compile gets the composition of a backward pass only")
    return compiled(fused_function)(world, case, sets)


def cudnn(_world, case, _sets):
    raise Refused(f"cuDNN through SDPA is attention, which kfuse does not have yet, not {case.op.name}")


def probe_cudnn(world):
    probe(world)
    if not world.side.gpu:
        raise Missing("cuDNN needs a GPU")
    version = world.side.module.backends.cudnn.version()
    if not version:
        raise Missing("this torch has no cuDNN")
    return str(version)


PEERS = [
    Peer("torch_eager", "PyTorch, one call per line of the formula", probe, eager),
    Peer("torch_fused", "PyTorch's own function (F.softmax, F.layer_norm, ...)", probe, fused),
    Peer("torch_compile", "torch.compile of the composition", probe, compiled(
        lambda case: compositions().ALL[case.op.name]), usual="gpu"),
    Peer("torch_compile_fn", "torch.compile of PyTorch's own function", probe, compiled_fused, usual="gpu"),
    Peer("cudnn", "cuDNN through SDPA: a place kept for attention", probe_cudnn, cudnn, usual=""),
]
