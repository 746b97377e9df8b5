"""What a provider is: a module-level list PEERS of these, and a call that it makes for one case.
SPDX-License-Identifier: Apache-2.0"""

from dataclasses import dataclass
from typing import Callable


class Missing(Exception):
    """A peer that is not here: one sentence why."""


class Refused(Exception):
    """A case that a peer does not do: one sentence why."""


@dataclass
class Call:
    """`run(data)` does the work on one set and returns its outputs, or None when it wrote them into the set."""
    run: Callable
    how: str = ""               # what was chosen: a knob, a form
    stored: bool = True         # intermediates may be stored in the case's dtype
    variant: str = ""
    batch: Callable = None      # all sets in one go: what cannot be captured
    calls: int = 0              # how often `batch` does the work; 0 = once per set
    finish: Callable = None     # waits for what `batch` started
    left: Callable = None       # what the batches left of set 0
    keep: object = None         # lives as long as the call
    roof: bool = False          # moves bytes and computes nothing: has no output to be judged


@dataclass(frozen=True)
class Peer:
    """`probe(world)` gives a version or raises Missing; `build(world, case, sets)` a Call or raises Refused."""
    name: str
    what: str
    probe: Callable
    build: Callable
    rival: bool = True          # may be the best peer: neither kfuse itself nor a roof
    usual: str = "gpu cpu"      # where it takes part without being named
    ops: tuple = ()             # all that it has, where that is known without asking it

    def has(self, op):
        return not self.ops or op in self.ops


@dataclass
class World:
    """What all providers share in one process."""
    side: object
    kfuse: object = None        # kfuse_lib.Library
    command: str = ""           # the kfuse command
    samples: int = 0


def positional(case, function):
    """A function of the inputs in their order as the run of a Call."""
    names = [tensor.name for tensor in case.op.inputs]

    def run(data):
        return function(*[data[name] for name in names])
    return run
