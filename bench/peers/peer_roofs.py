"""How long moving the bytes alone takes in the same process: a copy that reads and writes as many bytes as the case
has tensors, and for what only reads, a read of them. SPDX-License-Identifier: Apache-2.0"""

import timing
from kfuse_lib import KfuseError, Ready
from provider import Call, Missing, Peer, Refused

CHUNK = 8192  # elements that one partial sum of the op `ceilings` is made of
SMALL = 20    # outputs of less than one part in this many are no writing


def only_reads(case):
    return SMALL * case.bytes_of(case.op.outputs) < case.bytes_of(case.op.tensors)


def probe(world):
    if not world.side.gpu:
        raise Missing("roofs of a CPU's cache say nothing")
    return world.side.version


def copy(world, case, sets):
    if only_reads(case):
        raise Refused(f"{case.op.name} writes next to nothing: its roof is a read")
    torch, side = world.side.module, world.side
    count = max(4, case.bytes_of(case.op.tensors) // 8 // 4 * 4)
    own = [{"a": torch.randn(count, device=side.device), "o": torch.empty(count, device=side.device)} for _ in sets]
    of = {id(data): pair for data, pair in zip(sets, own)}
    runs, names = [lambda data: of[id(data)]["o"].copy_(of[id(data)]["a"])], ["driver"]
    if not isinstance(world.kfuse, Missing):
        try:
            ready = Ready(world.kfuse, "ceilings", {"a": ("f32", [count]), "o": ("f32", [count])}, {}, "copy", own)
            runs.append(lambda data: ready.run(of[id(data)]))
            names.append("kernel")
        except KfuseError:
            pass
    place, run = timing.fastest(side, runs, sets)

    def once(data):
        run(data)
    return Call(once, how=f"copy by {names[place]}", keep=own, roof=True)


def read(world, case, sets):
    if not only_reads(case):
        raise Refused(f"{case.op.name} writes, too: its roof is a copy")
    if isinstance(world.kfuse, Missing):
        raise Refused("a read needs kfuse's kernel")
    torch, side = world.side.module, world.side
    count = max(1, case.bytes_of(case.op.tensors) // 4)
    own = [{"a": torch.randn(count, device=side.device), "parts": torch.empty(-(-count // CHUNK), device=side.device)}
           for _ in sets]
    of = {id(data): pair for data, pair in zip(sets, own)}
    tensors = {"a": ("f32", [count]), "parts": ("f32", [-(-count // CHUNK)])}
    try:
        ready = Ready(world.kfuse, "ceilings", tensors, {}, "read", own)
    except KfuseError as error:
        raise Refused(str(error)) from error
    return Call(lambda data: ready.run(of[id(data)]), how="read by kernel", keep=own, roof=True)


PEERS = [
    Peer("roof_copy", "a copy of as many bytes", probe, copy, rival=False, usual="gpu"),
    Peer("roof_read", "a read of as many bytes", probe, read, rival=False, usual="gpu"),
]
