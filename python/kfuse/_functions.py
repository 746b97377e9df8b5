"""A function for every op, made from its table. SPDX-License-Identifier: Apache-2.0

The text of each is compiled once, so that Python itself checks the arguments and `help()` shows them."""

from __future__ import annotations

import sys

from . import _call, _short
from ._library import fail, ready_call
from ._short import argument, arguments
from ._table import OPS, Op


def _never() -> bool:
    return False


# What the functions see. kfuse.torch puts torch's functions and its own here: until then no type is `_plain`, which
# are those that the short way takes.
space: dict = {"_compiling": _never, "_traced": {}, "_plain": frozenset()}
space.update(_enqueue=_call.enqueue, _kf_call=ready_call, _fail=fail, _new=tuple.__new__)

_short_ways: dict = {}  # by the type of the first tensor; torch's are put here when one is seen


def call(op: Op, inputs: tuple, numbers: tuple, asked: tuple):
    way = _short_ways.get(type(inputs[0]))
    if way is not None:
        return way(op, inputs, numbers, asked)
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(inputs[0], torch.Tensor):
        from . import torch as own  # registers the ops

        _short_ways[type(inputs[0])] = own.way_of(type(inputs[0]))
        return _short_ways[type(inputs[0])](op, inputs, numbers, asked)
    return _call.call_any(op, inputs, numbers, asked)


space["_call"] = call


def _signature(op: Op) -> str:
    tensors = [op.tensors[i] for i in op.inputs]
    last = max((i for i, row in enumerate(tensors) if not row.optional), default=-1)
    texts = [argument(row.name) + ("=None" if i > last else "") for i, row in enumerate(tensors)]
    texts.append("*")
    texts += [f"{argument(row.name)}=_{op.name}_{argument(row.name)}" for row in op.attributes]
    texts += [f"{argument(op.tensors[i].name)}=None" for i in op.outputs]
    return ", ".join(texts + ["out=None"])


def _help(op: Op) -> str:
    lines = [f"{op.summary}: {op.formula}", ""]
    lines += [op.tensors[i].describe() + optional(op, i, "None: absent") for i in op.inputs]
    for row in op.attributes:
        choices = f" ({', '.join(row.words)})" if row.words else ""
        lines.append(f"{row.name}: {row.help}{choices}; {row.default!r} where nothing is said")
    lines += ["", "Returns the outputs that were asked for, several as a named tuple. Each is made, or written to the"]
    lines += ["array given under its name; `out` stands for the first:", ""]
    lines += [op.tensors[i].describe() + optional(op, i, "only if asked for: True or an array") for i in op.outputs]
    return "\n".join(lines)


def optional(op: Op, slot: int, word: str) -> str:
    return f" ({word})" if op.tensors[slot].optional else ""


def make(op: Op):
    first = argument(op.tensors[op.outputs[0]].name)
    everything = arguments(op)
    text = (
        f"def {op.name}({_signature(op)}):\n"
        f"    if out is not None:\n"
        f"        if {first} is not None:\n"
        f"            raise TypeError('{op.name}: out and {first} give the same result a place twice')\n"
        f"        {first} = out\n"
        f"    if _compiling():\n"
        f"        return _traced[{op.name!r}]({everything})\n"
        f"{_short.text(op)}"
        f"    return _call(_op_{op.name}, {everything})\n"
    )
    space[f"_op_{op.name}"], space[f"_ready_{op.name}"] = op, op.ready
    space.update({f"_{op.name}_{argument(row.name)}": value for row, value in zip(op.attributes, op.defaults)})
    exec(compile(text, f"<kfuse.{op.name}>", "exec"), space)
    function = space[op.name]
    function.__doc__ = _help(op)
    function.__module__ = "kfuse"
    return function


FUNCTIONS = {op.name: make(op) for op in OPS}
