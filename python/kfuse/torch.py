"""torch: the short way to the library for its tensors, and the ops as custom ops `torch.ops.kfuse.*` with fake
implementations, so that torch.compile and torch.export see them. SPDX-License-Identifier: Apache-2.0

`import kfuse` does this by itself when torch has been imported before; else the first torch tensor does. Say
`import kfuse.torch` where neither comes before the first compiled call."""

from __future__ import annotations

import ctypes
import itertools
import sys

import torch
from torch.autograd import forward_ad as _forward

from . import _call, _functions
from ._arrays import HOST, contiguous
from ._call import Record, keep
from ._library import InvalidError, UnsupportedError
from ._table import NAMES, OPS, Op

_DTYPES = {code: getattr(torch, name) for code, name in NAMES.items()}


_note_write = getattr(torch.autograd.graph, "increment_version", None)
_increment = getattr(torch._C, "_increment_version", None)


def _stream_object(index: int) -> int:
    return torch.cuda.current_stream(index).cuda_stream


# The native handle of a device's current stream; the quick way makes no object of it.
current_stream = getattr(torch._C, "_cuda_getCurrentRawStream", _stream_object)


# ---- who looks on ---------------------------------------------------------------------------------

# Modes that see every op (make_fx, fake tensors, counters), transforms (vmap, grad), torch.jit.trace.
_modes = getattr(torch._C, "_len_torch_dispatch_stack", int)
_transform = getattr(getattr(torch._C, "_functorch", None), "maybe_current_level", lambda: None)
_tracing = getattr(torch._C, "_get_tracing_state", lambda: None)


def _refuse_tangents(op: Op, values: tuple) -> None:
    for value in values:
        if isinstance(value, torch.Tensor) and _forward.unpack_dual(value).tangent is not None:
            raise UnsupportedError(f"{op.name} has no forward-mode derivative: it would lose the tangent of its input")


# ---- tensors on a CUDA device: the short way ------------------------------------------------------


def _key_of(value):
    """Of an output: None, True, or what a tensor given for it is."""
    if value is None or value is True or value is False:
        return value
    return value.dtype, value.shape, value.stride(), value.get_device(), value.requires_grad, value.is_neg()


def _record(op: Op, key: tuple, inputs: tuple, numbers: tuple, asked: tuple) -> Record:
    views = _call._views(op, inputs, op.inputs, 0) + _call._views(op, asked, op.outputs, 0)
    _call._same_device(op, views)
    tensors = [value for value in inputs + asked if isinstance(value, torch.Tensor)]
    record = Record(op, views, numbers, asked, any(tensor.requires_grad for tensor in tensors))
    record.written = any(isinstance(value, torch.Tensor) for value in asked)
    record.made = []  # empty_like() is the quickest, new_empty() quicker without a dtype
    for (i, shape, code), like in zip(record.makes, record.like):
        same = inputs[like].dtype == _DTYPES[code]
        alike = same and views[like].key[1:3] == (shape, contiguous(shape))
        record.made.append((i, like, None if alike else shape, {} if same else {"dtype": _DTYPES[code]}))
    return keep(op, key, record)


def _found(op: Op, inputs: tuple, numbers: tuple, asked: tuple) -> Record | None:
    """The record of a call; None where an array of somebody else is among them, or a wrong argument."""
    try:
        key = (
            op.lasting(numbers),
            tuple(
                [
                    t if t is None else (t.dtype, t.shape, t.stride(), t.get_device(), t.requires_grad, t.is_neg())
                    for t in inputs
                ]
            ),
            tuple([_key_of(value) for value in asked]),
        )
        record = op.records.get(key)
    except (AttributeError, TypeError):
        return None
    return _record(op, key, inputs, numbers, asked) if record is None else record


def _call_tensors(op: Op, inputs: tuple, numbers: tuple, asked: tuple, autograd: bool = True):
    """What the short way does, for all that it does not take."""
    if _forward._current_level >= 0:
        _refuse_tangents(op, inputs + asked)
    if autograd and (_modes() or _transform() is not None or _tracing() is not None):
        return _traced(op, inputs, numbers, asked)
    numbers = op.plain(numbers)
    record = _found(op, inputs, numbers, asked)
    if record is None:
        return _call.call_any(op, inputs, numbers, asked)
    if record.gradient and autograd and torch.is_grad_enabled():
        return _traced(op, inputs, numbers, asked)
    if record.index == HOST:
        results = _call.call_any(op, inputs, numbers, asked)
        if record.written:
            _note_writes(asked)
        return results
    outputs = list(asked)
    for i, like, shape, other in record.made:
        value = inputs[like]
        outputs[i] = torch.empty_like(value) if shape is None else value.new_empty(shape, **other)
    results = [outputs[i] for i in record.results]
    addresses = [t.data_ptr() for t in inputs if t is not None]
    addresses += [t.data_ptr() for t in results]
    _call.run_direct(op, record, current_stream(record.index), addresses, numbers)
    if record.written:
        _note_writes(asked)
    return record.result._make(results) if record.result else results[0]


def _first(key: tuple, op: Op, inputs: tuple, numbers: tuple, asked: tuple):
    """A call that the short way does not know; it takes the next one that looks like this."""
    results = _call_tensors(op, inputs, numbers, asked)
    record = _found(op, inputs, op.plain(numbers), asked)
    if record is not None and _is_for_the_short_way(record, inputs, asked):
        if len(op.ready) >= _call.RECORDS:
            op.ready.clear()
        op.ready[key] = _ready(op, record)
    return results


def _is_for_the_short_way(record: Record, inputs: tuple, asked: tuple) -> bool:
    """Not host memory; nothing of no elements, which lies nowhere; no gradient of a place given; nothing that has but
    the look of other tensors."""
    places = [value for value in asked if isinstance(value, torch.Tensor)]
    tensors = [value for value in inputs if value is not None] + places
    return (
        record.index != HOST
        and all(record.extents)
        and not any(place.requires_grad for place in places)
        and all(t.stride() == contiguous(t.shape) for t in tensors if t.is_contiguous())
    )


def _nothing(*_) -> None:
    """An output that was not asked for."""


def _maker(like: int, shape: tuple | None, other: dict):
    """Makes an output from the inputs; True says: like the first of them."""
    if shape is None:
        return (lambda *inputs: torch.empty_like(inputs[like])) if like else True
    return lambda *inputs: inputs[like].new_empty(shape, **other)


def _ready(op: Op, record: Record) -> tuple:
    """What the short way unpacks."""
    numbers = None if record.numbers is None else ctypes.byref(record.numbers)
    makers = {i: _maker(*how) for i, *how in record.made}
    makers.update({i: None for i in record.results if i not in makers})  # given
    places = {slot: (place, size.bit_length() - 1) for slot, (place, size) in zip(record.slots, record.places)}
    return (
        *(record, record.device, record.index, ctypes.byref(record.pointers), numbers, record.result),
        *(makers.get(i, _nothing) for i in range(len(op.outputs))),
        *(part for slot in op.inputs + op.outputs for part in places.get(slot, (None, 0))),
    )


def _wrote(place) -> None:
    """_note_writes() of one, without what increment_version() looks at first."""
    try:
        _increment((place,))
    except (RuntimeError, TypeError):  # an older torch: one at a time, and none of inference mode's
        _note_writes((place,))


def _note_writes(asked: tuple) -> None:
    """Autograd refuses to go back through what was saved and then written to: it must know."""
    for value in asked:
        if _note_write and isinstance(value, torch.Tensor) and not value.is_inference():
            _note_write(value)


def _call_traced(op: Op, inputs: tuple, numbers: tuple, asked: tuple):
    if _forward._current_level >= 0:
        _refuse_tangents(op, inputs + asked)
    return _traced(op, inputs, numbers, asked)


def way_of(kind: type):
    """Fake tensors and other subclasses that see every op go through the dispatcher."""
    plain = kind.__torch_dispatch__ is torch.Tensor.__torch_dispatch__
    return _call_tensors if plain else _call_traced


# ---- custom ops -----------------------------------------------------------------------------------


def _attribute_type(row) -> str:
    """SymInt: a compiled function serves every value of an attribute of each run."""
    return "str" if row.words else "float" if row.real else "SymInt" if row.per_run else "int"


def _schema(op: Op) -> str:
    texts = [("Tensor? " if op.tensors[i].optional else "Tensor ") + op.tensors[i].name for i in op.inputs]
    rest = [f"{_attribute_type(row)} {row.name}={_literal(row.default)}" for row in op.attributes]
    rest += [f"bool {op.tensors[i].name}=False" for i in op.outputs if op.tensors[i].optional]
    results = ", ".join(["Tensor"] * len(op.outputs))
    returns = f"({results})" if len(op.outputs) > 1 else results
    return f"({', '.join(texts + (['*'] + rest if rest else []))}) -> {returns}"


def _literal(value) -> str:
    return f'"{value}"' if isinstance(value, str) else repr(value)


def _parts(op: Op, arguments: tuple, named: dict) -> tuple:
    """Arguments of the schema as inputs, attributes and which outputs are asked for."""
    names = [op.tensors[i].name for i in op.inputs]
    given = dict(zip(names, arguments), **named)
    inputs = tuple(given.get(name) for name in names)
    numbers = tuple(given.get(row.name, row.default) for row in op.attributes)
    rows = [op.tensors[i] for i in op.outputs]
    asked = tuple(given.get(row.name, False) if row.optional else True for row in rows)
    return inputs, numbers, asked


def _all_results(op: Op, results, asked: tuple, like):
    """One tensor for every output of the schema: an empty one where it was not asked for."""
    if len(op.outputs) == 1:
        return results
    found = iter(results if isinstance(results, tuple) else (results,))
    return tuple(next(found) if flag else like.new_empty((0,)) for flag in asked)


def _real(op: Op):
    def run(*arguments, **named):
        inputs, numbers, asked = _parts(op, arguments, named)
        results = _call_tensors(op, inputs, numbers, asked, autograd=False)
        return _all_results(op, results, asked, inputs[0])

    return run


def _fake(op: Op):
    def shapes(*arguments, **named):
        inputs, numbers, asked = _parts(op, arguments, named)
        rows = [op.tensors[i] for i in op.inputs]
        lasting = [(row, value) for row, value in zip(op.attributes, numbers) if not row.per_run]
        values = {row.name: row.number(op.name, value) for row, value in lasting}
        given = {row.name: tuple(t.shape) for row, t in zip(rows, inputs) if t is not None}
        open_ones = [t for row, t in zip(rows, inputs) if t is not None and not row.dtype]
        found = op.shapes(given, values)
        made = []
        for slot, flag in zip(op.outputs, asked):
            row = op.tensors[slot]
            if flag and found[row.name] is None:
                raise InvalidError(f"{op.name}: the shape of '{row.name}' follows from no tensor given")
            dtype = _DTYPES[row.dtype] if row.dtype else open_ones[0].dtype
            made.append(inputs[0].new_empty(found[row.name], dtype=dtype) if flag else inputs[0].new_empty((0,)))
        return tuple(made) if len(made) > 1 else made[0]

    return shapes


def _register(op: Op):
    custom = torch.library.custom_op(f"kfuse::{op.name}", mutates_args=(), schema=_schema(op))(_real(op))
    custom.register_fake(_fake(op))
    return getattr(torch.ops.kfuse, op.name)


def _traced_of(op: Op):
    """What a compiled function sees instead of the Python of this package: one call of the custom op."""
    target, name = _register(op), op.name
    numbers_of = tuple((row.name, row.words, row.real) for row in op.attributes)
    rows = tuple((op.tensors[i].name, op.tensors[i].optional) for i in op.outputs)
    optional_ones = [row.name for row in (op.tensors[i] for i in op.outputs) if row.optional]
    types = {}  # of what is returned: nothing can be made while torch traces
    for size in range(len(optional_ones) + 1):
        for some in itertools.combinations(optional_ones, size):
            names = tuple(output for output, optional in rows if not optional or output in some)
            if len(names) > 1:
                types[names] = _call._result_type(op, names)

    def traced(inputs, numbers, asked):
        named = {}
        for (attribute, words, real), value in zip(numbers_of, numbers):
            if words and not isinstance(value, str):
                value = words[value]
            named[attribute] = float(value) if real else value
        names = []
        for (output, optional), value in zip(rows, asked):
            if not (value is None or value is True or value is False):
                raise InvalidError(
                    f"{name}: where torch compiles, traces or differentiates, results cannot be given a place"
                )
            if optional:
                named[output] = value is True
            if value is True or not optional:
                names.append(output)
        results = target(*inputs, **named)
        if len(rows) == 1:
            return results
        results = [result for result, (output, _) in zip(results, rows) if output in names]
        return types[tuple(names)](*results) if len(names) > 1 else results[0]

    return traced


_traced_ops = _functions.space["_traced"]


def _traced(op: Op, inputs: tuple, numbers: tuple, asked: tuple):
    if op.name not in _traced_ops:
        raise UnsupportedError(f"{op.name}: custom ops, gradients and compilation need torch 2.4 or newer")
    return _traced_ops[op.name](inputs, numbers, asked)


if hasattr(torch.library, "custom_op"):
    for _op in OPS:
        _traced_ops[_op.name] = _traced_of(_op)
    _functions.space["_compiling"] = torch.compiler.is_dynamo_compiling  # the quicker one; other tracers have modes

_functions.space.update(
    _plain=frozenset((torch.Tensor, torch.nn.Parameter)),
    _own=sys.modules[__name__],
    _forward=_forward,
    _modes=_modes,
    _transform=_transform,
    _tracing=_tracing,
    _grad_enabled=torch.is_grad_enabled,
    _empty_like=torch.empty_like,
    _first=_first,
    _wrote=_wrote,
)
