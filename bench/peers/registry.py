"""All peers, in the order in which they are measured and shown. SPDX-License-Identifier: Apache-2.0"""

import kfuse_cmd
import kfuse_lib
import peer_jax
import peer_numpy
import peer_others
import peer_roofs
import peer_tilelang
import peer_torch
import peer_triton
import peer_tvm

OURS = "kfuse_fused"


def peers():
    """Those that share one process."""
    return [peer for module in (peer_roofs, kfuse_lib, peer_torch, peer_triton, peer_tilelang, peer_tvm, peer_jax,
                                peer_others, peer_numpy)
            for peer in module.PEERS]


def names():
    return [peer.name for peer in peers()] + [kfuse_cmd.NAME]


def what(name):
    return next((peer.what for peer in peers() if peer.name == name), "kfuse on OpenCL, from a process of its own")


def usual(gpu):
    """Who takes part when nobody is named."""
    kind = "gpu" if gpu else "cpu"
    return [peer.name for peer in peers() if kind in peer.usual.split() or peer.usual == ""] + [kfuse_cmd.NAME]


def might_run(name, op):
    """A rival that has this op: where it gives no time something went wrong."""
    return any(peer.name == name and peer.rival and peer.has(op) for peer in peers())


def rivals():
    return [peer.name for peer in peers() if peer.rival]
