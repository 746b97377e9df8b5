"""The short way of torch tensors on a CUDA device, as a part of the function of each op.
SPDX-License-Identifier: Apache-2.0

The interpreter is most of what a call costs, so the text of each op names its own tensors one by one: no loops, no
tuples in between. It takes only what `Op.ready` knows, which it looks up by all that a record depends on: what it does
not find, or must not take, _call_tensors() of kfuse.torch does. For softmax, in short:

    if type(x) in _plain and not (_modes() or ...):
        _key = (numbers, x's facts, y's facts)
        _found = _ready_softmax.get(_key)
        if _found is None:
            return _first(...)
        (..., _make_y, _x_place, _x_by, _y_place, _y_by) = _found
        if _make_y:
            y = _empty_like(x) if _make_y is True else _make_y(x)
        _x_at = x.data_ptr()
        _y_at = y.data_ptr()
        with _device.lock:
            _x_place.offset = (_x_at - BASE) >> _x_by
            _y_place.offset = (_y_at - BASE) >> _y_by
            _status = _kf_call(...)
        return y

An address of 0, of what has memory no longer, becomes an offset that the library refuses."""

from __future__ import annotations

import keyword

from . import _call
from ._devices import BASE
from ._table import Op


def argument(name: str) -> str:
    return name + "_" if keyword.iskeyword(name) else name


def tuple_of(rows) -> str:
    return "(" + "".join(argument(row.name) + ", " for row in rows) + ")"


def arguments(op: Op) -> str:
    """Inputs, attributes and outputs as tuples: what every other way takes."""
    parts = [op.tensors[i] for i in op.inputs], op.attributes, [op.tensors[i] for i in op.outputs]
    return ", ".join(tuple_of(part) for part in parts)


# What a record depends on, but for gradients. Contiguous tensors of a shape are alike, whatever stride torch gives an
# axis of one element.
_FACTS = "{0}.dtype, {0}.shape, {0}.is_contiguous() or {0}.stride(), {0}.get_device(), {0}.is_neg()"


def _absent(name: str) -> str:
    return f"{name} is None or {name} is True or {name} is False"


def _key(op: Op, inputs: list, numbers: list, outputs: list) -> list:
    """Lines that look at the arguments."""
    parts = []
    if numbers:
        usual = " and ".join(f"{name} is _{op.name}_{name}" for name in numbers)
        plain = " and ".join(f"type({name}) is {kind.__name__}" for name, kind in zip(numbers, op.types))
        lasting = "".join(f"{name}, " for name in op.lasting(tuple(numbers)))
        general = f"_op_{op.name}.lasting(_op_{op.name}.plain({tuple_of(op.attributes)}))"
        parts.append(f"None if {usual} else ({lasting}) if {plain} else {general}")
    for name, optional in inputs:
        parts.append(f"None if {name} is None else ({_FACTS.format(name)})" if optional else _FACTS.format(name))
    for name, row in outputs:
        # In place: looked at already.
        same = "".join(f"{other!r} if {name} is {other} else " for other in map(argument, row.in_place))
        parts.append(f"{name} if {_absent(name)} else {same}({_FACTS.format(name)}, {name}.requires_grad)")
    grads = [f"{n} is not None and {n}.requires_grad" if optional else f"{n}.requires_grad" for n, optional in inputs]
    return [
        "try:",
        f"    if _grad_enabled() and ({' or '.join(grads)}):",
        f"        return {_general(op)}",
        "    _key = (",
        *(f"        {part}," for part in parts),
        "    )",
        f"    _found = _ready_{op.name}.get(_key)",
        "except (AttributeError, TypeError):  # an array of somebody else among them, or a wrong argument",
        f"    return {_general(op)}",
        "if _found is None:",
        f"    return _first(_key, _op_{op.name}, {arguments(op)})",
    ]


def _general(op: Op) -> str:
    return f"_call(_op_{op.name}, {arguments(op)})"


def _run(op: Op, names: list, optional: set) -> list:
    """Lines that enqueue."""
    lines = []
    for name in names:
        lines.append(f"_{name}_at = {f'0 if {name} is None else ' if name in optional else ''}{name}.data_ptr()")
    present = f"[t.data_ptr() for t in ({', '.join(names)}) if t is not None]"
    numbers, most = tuple_of(op.attributes), _call.LARGEST - 1
    lines += [
        "_native = _own.current_stream(_index)",
        "with _device.lock:",
        "    _latest, _stream = _device.latest",
        f"    _bits = {' | '.join(f'_{name}_at' for name in names)}",
        "    _what = _record",
        f"    if _bits & {most}:",
        f"        _what = _record, tuple([at & {most} for at in ({', '.join(f'_{name}_at' for name in names)}) if at])",
        "    if _latest != _native or _what not in _stream.ran:",
        f"        _enqueue(_op_{op.name}, _record, _native, {present}, {numbers})",
        "    else:",
        "        _stream.ran.move_to_end(_what)",
    ]
    for name in names:
        there = f"if {name} is not None: " if name in optional else ""
        lines.append(f"        {there}_{name}_place.offset = (_{name}_at - {BASE}) >> _{name}_by")
    if op.per_run:
        lines.append(f"        _record.set_per_run(_op_{op.name}, {numbers})")
    lines += [
        f"        _status = _kf_call(_stream.calls_place, {op.symbol!r}, _pointers, _numbers)",
        "        if _status:",
        "            _fail(_status)",
    ]
    return lines


def _returned(outputs: list) -> list:
    """Lines that return what was asked for, which is at least the outputs that are always there."""
    always = [name for name, row in outputs if not row.optional]
    usual = always[0] if len(always) == 1 else f"_new(_result, ({', '.join(always)}))"
    if len(always) == len(outputs):
        return [f"return {usual}"]
    none = " and ".join(f"{name} is None" for name, row in outputs if row.optional)
    every = f"[t for t in ({', '.join(name for name, _ in outputs)}) if t is not None]"
    return [f"if {none}:", f"    return {usual}", f"return _new(_result, {every}) if _result else {always[0]}"]


def text(op: Op) -> str:
    """The lines of the short way, within the function of the op."""
    inputs = [(argument(op.tensors[i].name), op.tensors[i].optional) for i in op.inputs]
    outputs = [(argument(op.tensors[i].name), op.tensors[i]) for i in op.outputs]
    of_inputs = ", ".join(name for name, _ in inputs)
    names = [name for name, _ in inputs + outputs]
    optional = {name for name, flag in inputs if flag} | {name for name, row in outputs if row.optional}
    lines = _key(op, inputs, [argument(row.name) for row in op.attributes], outputs)
    unpacked = ["_record", "_device", "_index", "_pointers", "_numbers", "_result"]
    unpacked += [f"_make_{name}" for name, _ in outputs]
    unpacked += [f"_{name}_{part}" for name in names for part in ("place", "by")]
    lines += [f"{', '.join(unpacked)} = _found"]
    for name, row in outputs:
        like = f"_empty_like({inputs[0][0]}) if _make_{name} is True else "
        lines += [
            f"if {f'{name} is not None and ' if row.optional else ''}_make_{name}:",
            f"    {name} = {like}_make_{name}({of_inputs})",
        ]
    lines += _run(op, names, optional)
    for name, row in outputs:
        there = f"{name} is not None and " if row.optional else ""
        lines += [f"if {there}not _make_{name}:", f"    _wrote({name})"]
    lines += _returned(outputs)
    look = f"type({inputs[0][0]}) in _plain and _forward._current_level < 0"
    look += " and not (_modes() or _tracing() is not None or _transform() is not None)"
    return f"    if {look}:\n" + "".join(f"        {line}\n" for line in lines)
