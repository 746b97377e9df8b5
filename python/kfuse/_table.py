"""The ops' tables, read from the library. SPDX-License-Identifier: Apache-2.0"""

from __future__ import annotations

import ctypes
import dataclasses
import operator
import reprlib

from ._library import AttributeInfo, InvalidError, OpInfo, TensorInfo, check, library

F32, F16, BF16, I32, I64 = 1, 2, 3, 4, 5
NAMES = {F32: "float32", F16: "float16", BF16: "bfloat16", I32: "int32", I64: "int64"}
CODES = {name: code for code, name in NAMES.items()}
BYTES = {F32: 4, F16: 2, BF16: 2, I32: 4, I64: 8}


@dataclasses.dataclass(frozen=True)
class TensorRow:
    name: str
    dims: tuple[str, ...]
    in_place: tuple[str, ...]
    scalar: str
    help: str
    dtype: int
    output: bool
    optional: bool
    below: str

    def describe(self) -> str:
        kind = NAMES[self.dtype] if self.dtype else "float32, float16 or bfloat16"
        place = f"; may be {' or '.join(self.in_place)} itself" if self.in_place else ""
        return f"{self.name}: {kind} of [{', '.join(self.dims)}]: {self.help}{place}"


@dataclasses.dataclass(frozen=True)
class AttributeRow:
    name: str
    words: tuple[str, ...]
    help: str
    fallback: float
    real: bool
    per_run: bool

    @property
    def default(self):
        """As a caller writes it."""
        if self.words:
            return self.words[int(self.fallback)]
        return self.fallback if self.real else int(self.fallback)

    def number(self, op: str, value):
        """A float, an int, or the place of a word."""
        if isinstance(value, str):
            if value not in self.words:
                choices = ", ".join(self.words) if self.words else "numbers"
                raise InvalidError(f"{op}: '{value}' is no {self.name}; it takes {choices}")
            return self.words.index(value)
        try:
            found = float(value) if self.real else operator.index(value)
        except (TypeError, ValueError, RuntimeError, OverflowError):  # whatever arrays say that are no single number
            kind = "number" if self.real else "whole number"
            raise TypeError(f"{op}: {self.name} takes a {kind}, not {reprlib.repr(value)}") from None
        if not self.real and not -(1 << 63) <= found < 1 << 63:
            raise InvalidError(f"{op}: {self.name}={found} is none of the whole numbers from -2**63 to 2**63 - 1")
        return found


@dataclasses.dataclass(eq=False)
class Op:
    name: str
    summary: str
    formula: str
    dims: tuple[str, ...]
    any_axis: bool
    tensors: tuple[TensorRow, ...]
    attributes: tuple[AttributeRow, ...]

    def __post_init__(self):
        places = range(len(self.tensors))
        self.symbol = self.name.encode()
        self.inputs = tuple(i for i in places if not self.tensors[i].output)
        self.outputs = tuple(i for i in places if self.tensors[i].output)
        self.per_run = tuple(i for i, row in enumerate(self.attributes) if row.per_run)
        self.defaults = tuple(row.default for row in self.attributes)
        self.types = [type(value) for value in self.defaults]
        self.records: dict = {}  # of _call.py, by what they were made for
        self.ready: dict = {}  # what _short.py needs of some of them, by what it looks at

    def forget(self) -> None:
        self.records.clear()
        self.ready.clear()

    def plain(self, numbers: tuple) -> tuple:
        """The attributes as Python's own numbers, or words: what can be looked up, and stays as it is. Equal ones of
        another type are not taken for them: 1.0 is no axis."""
        if list(map(type, numbers)) == self.types:
            return numbers
        return tuple([row.number(self.name, value) for row, value in zip(self.attributes, numbers)])

    def lasting(self, numbers: tuple) -> tuple:
        """The attributes that a record depends on: all but those of each run."""
        if not self.per_run:
            return numbers
        return tuple(None if i in self.per_run else number for i, number in enumerate(numbers))

    # ---- shapes ----

    def _bind(self, row: TensorRow, shape: tuple, axis, bound: dict) -> None:
        """What the shape of one input says about the dims of its row."""
        dims, rank = row.dims, len(shape)
        if len(dims) == 1:
            parts = [shape]
        elif axis is not None:
            first = axis + rank if axis < 0 else axis
            one = self.any_axis
            parts = [shape[:first] + (shape[first + 1 :] if one else ())]
            parts.append(shape[first : first + 1] if one else shape[first:])
        else:
            cut = max(rank - len(dims) + 1, 0)
            parts = [shape[:cut]] + [shape[i : i + 1] for i in range(cut, rank)]
        for dim, part in zip(dims, parts):
            bound.setdefault(dim, tuple(part))

    def shapes(self, given: dict, numbers: dict) -> dict:
        """Shapes of the outputs, by name, that follow from those of the inputs; None where nothing follows."""
        bound: dict = {}
        rows = sorted((self.tensors[i] for i in self.inputs), key=lambda row: -len(row.dims))
        rows = [row for row in rows if given.get(row.name) is not None]
        for row in rows:
            self._bind(row, given[row.name], numbers.get("axis"), bound)
        found = {}
        for row in (self.tensors[i] for i in self.outputs):
            same = [given[other.name] for other in rows if other.dims == row.dims]
            if row.scalar and numbers[row.scalar]:
                found[row.name] = ()
            elif same:
                found[row.name] = tuple(same[0])
            elif all(dim in bound for dim in row.dims):
                found[row.name] = tuple(size for dim in row.dims for size in bound[dim])
            else:
                found[row.name] = None
        return found


def _text(value: bytes) -> str:
    return value.decode("utf-8")


def _words(value: bytes) -> tuple[str, ...]:
    return tuple(_text(value).split())


def _tensor(op: int, index: int) -> TensorRow:
    info = TensorInfo()
    check(library.kf_op_tensor(op, index, ctypes.byref(info)))
    return TensorRow(
        name=_text(info.name),
        dims=_words(info.dims),
        in_place=_words(info.in_place),
        scalar=_text(info.scalar),
        help=_text(info.help),
        dtype=info.dtype,
        output=info.output,
        optional=info.optional,
        below=_text(info.below),
    )


def _attribute(op: int, index: int) -> AttributeRow:
    info = AttributeInfo()
    check(library.kf_op_attribute(op, index, ctypes.byref(info)))
    return AttributeRow(
        name=_text(info.name),
        words=_words(info.words),
        help=_text(info.help),
        fallback=info.fallback,
        real=info.real,
        per_run=info.per_run,
    )


def _op(index: int) -> Op:
    info = OpInfo()
    check(library.kf_op_describe(index, ctypes.byref(info)))
    return Op(
        name=_text(info.name),
        summary=_text(info.summary),
        formula=_text(info.formula),
        dims=_words(info.dims),
        any_axis=info.any_axis,
        tensors=tuple(_tensor(index, i) for i in range(info.tensor_count)),
        attributes=tuple(_attribute(index, i) for i in range(info.attribute_count)),
    )


OPS = tuple(_op(index) for index in range(library.kf_op_count()))
