"""One call: what was asked for is looked up by dtypes, shapes, strides and attributes; then only addresses
change. SPDX-License-Identifier: Apache-2.0

Three ways lead here: torch tensors on a CUDA device (the short one), other device memory, and host memory, which is
copied to a device of the library and back."""

from __future__ import annotations

import collections
import ctypes
import sys

from . import _arrays, _devices
from ._arrays import HOST, View
from ._devices import BASE
from ._library import InvalidError, Number, Operand, check, fail, library
from ._table import BYTES, Op

LARGEST = 128  # bytes: a larger alignment makes no other exec
RECORDS = _devices.EXECS  # kept per op; a program with more shapes than that starts over

_results: dict = {}


def _result_type(op: Op, names: tuple):
    found = _results.get((op.name, names))
    if found is None:
        found = _results[op.name, names] = collections.namedtuple(f"{op.name}_result", names)
    return found


def _asked(value) -> bool:
    """Is this output made or given, rather than left out?"""
    return value is not None and value is not False


class Record:
    """What calls of the same dtypes, shapes, strides and attributes share."""

    def __init__(self, op: Op, views: list, numbers: tuple, asked: tuple, gradient: bool = False):
        given = [view for view in views if view is not None]
        if not given:
            raise InvalidError(f"{op.name}: needs the tensor '{op.tensors[op.inputs[0]].name}'")
        self.index = given[0].index
        self.gradient = gradient
        self.numbers = self._numbers(op, numbers)
        self.makes = self._outputs(op, views, asked)
        self._place(op, views, asked)
        # Which input a new array is made like: one of the same dtype, else the first.
        inputs = views[: len(op.inputs)]
        first = next(i for i, view in enumerate(inputs) if view is not None)
        same = {view.dtype: i for i, view in reversed(list(enumerate(inputs))) if view is not None}
        self.like = tuple(same.get(code, first) for _, _, code in self.makes)
        names = tuple(op.tensors[op.outputs[i]].name for i in self.results)
        self.result = _result_type(op, names) if len(names) > 1 else None

    def _numbers(self, op: Op, numbers: tuple):
        if not op.attributes:
            self.named = {}
            return None
        array = (Number * len(numbers))()
        rows = op.attributes
        self.named = {row.name: row.number(op.name, value) for row, value in zip(rows, numbers)}
        for place, row in zip(array, rows):
            if row.real:
                place.f = self.named[row.name]
            else:
                place.i = self.named[row.name]
        return array

    def set_per_run(self, op: Op, numbers: tuple) -> None:
        """The attributes that change from call to call without another exec; the device's lock is held."""
        for i in op.per_run:
            self.numbers[i].i = op.attributes[i].number(op.name, numbers[i])

    def _outputs(self, op: Op, views: list, asked: tuple) -> list:
        """(place among the outputs, shape, dtype) of those to be made; `results` are all that are returned."""
        inputs = dict(zip((op.tensors[i].name for i in op.inputs), views))
        shapes = op.shapes({name: v.shape for name, v in inputs.items() if v is not None}, self.named)
        dtype = next((v.dtype for i, v in zip(op.inputs, views) if v is not None and not op.tensors[i].dtype), 0)
        makes, self.results = [], []
        for i, slot in enumerate(op.outputs):
            row = op.tensors[slot]
            if not _asked(asked[i]) and row.optional:
                continue
            self.results.append(i)
            if _asked(asked[i]) and asked[i] is not True:
                continue
            if shapes[row.name] is None:
                raise InvalidError(f"{op.name}: the shape of '{row.name}' follows from no tensor given; give its place")
            makes.append((i, shapes[row.name], row.dtype or dtype))
        return makes

    def _place(self, op: Op, views: list, asked: tuple) -> None:
        """Operands in table order, of which calls change offsets (and host memory buffers)."""
        count = len(op.tensors)
        self.operands = (Operand * count)()
        self.pointers = (ctypes.POINTER(Operand) * count)()
        made = {i: (code, shape, _arrays.contiguous(shape)) for i, shape, code in self.makes}
        tensors = [(slot, view.key[:3]) for slot, view in zip(op.inputs, views) if view is not None]
        outputs = views[len(op.inputs) :]
        for i in self.results:
            key = made[i] if i in made else outputs[i].key[:3]
            tensors.append((op.outputs[i], key))
        self.places, self.slots, self.extents = [], [], []
        for slot, (code, shape, stride) in tensors:
            operand = self.operands[slot]
            if len(shape) > len(operand.tensor.size):
                raise InvalidError(
                    f"{op.name}: '{op.tensors[slot].name}' has {len(shape)} axes; "
                    f"{len(operand.tensor.size)} at most are possible"
                )
            operand.tensor.dtype, operand.tensor.rank = code, len(shape)
            operand.tensor.size[: len(shape)], operand.tensor.stride[: len(stride)] = shape, stride
            self.pointers[slot] = ctypes.pointer(operand)
            self.places.append((operand, BYTES[code]))
            self.slots.append(slot)
            self.extents.append(_arrays.extent(shape, stride) * BYTES[code])
        if self.index != HOST:
            self.device = _devices.direct_device(self.index)
            for operand, _ in self.places:
                operand.buffer = self.device.memory

    def returned(self, outputs: list):
        return self.result._make(outputs) if self.result else outputs[0]


def keep(op: Op, key: tuple, record: Record) -> Record:
    if len(op.records) >= RECORDS:
        op.forget()
    op.records[key] = record
    return record


# ---- device memory --------------------------------------------------------------------------------


def _may_prepare(op: Op, record: Record) -> None:
    """Nothing can be compiled, loaded or allocated while a stream is captured."""
    if _devices.capturing(record.index):
        raise InvalidError(
            f"{op.name}: this call is not prepared on the stream that is being captured: make it once before, under "
            "torch.cuda.stream(s), and capture with torch.cuda.graph(g, stream=s)"
        )


def run_direct(op: Op, record: Record, native: int, addresses: list, numbers: tuple, others: tuple = ()) -> None:
    """Enqueues on a native stream, after what `others` still have to do."""
    with record.device.lock:
        enqueue(op, record, native, addresses, numbers, others)


def enqueue(op: Op, record: Record, native: int, addresses: list, numbers: tuple, others: tuple = ()) -> None:
    """The same; the device's lock is held."""
    device = record.device
    latest, stream = device.latest
    if latest != native:
        if native not in device.streams:
            _may_prepare(op, record)
        stream = device.stream(native)
    for other in others:  # which cannot close `stream`: that one was used last
        check(library.kf_queue_wait(stream.queue, device.stream(other).queue))
    bits = 0
    for (operand, size), extent, address in zip(record.places, record.extents, addresses):
        if address % size:
            raise InvalidError(f"{op.name}: a tensor at address {address:#x} is not aligned to its elements")
        bits |= address
        operand.offset = (address - BASE) // size if address or extent else 0
    what = record if not bits % LARGEST else (record, tuple([address % LARGEST for address in addresses]))
    new = False
    try:
        stream.ran.move_to_end(what)
    except KeyError:
        new = True
        _may_prepare(op, record)
    record.set_per_run(op, numbers)
    status = library.kf_call(stream.calls, op.symbol, record.pointers, record.numbers)
    if status:
        fail(status)
    if new:
        stream.note(what)


# ---- host memory ----------------------------------------------------------------------------------


def _checked_extent(op: Op, slot: int, view: View) -> None:
    if any(step < 0 for step in view.stride):
        raise InvalidError(f"{op.name}: '{op.tensors[slot].name}' has a negative stride; copy it first")


def _refuse_overlaps(op: Op, record: Record, views: list, first_output: int) -> None:
    """As for device memory: results share elements with nothing, unless they are the very same ones, of which the
    library knows where they are allowed."""
    for i in range(first_output, len(views)):
        for j in range(i):
            if _arrays.overlap(views[i], views[j]):
                names = [op.tensors[record.slots[k]].name for k in (i, j)]
                raise InvalidError(f"{op.name}: '{names[0]}' overlaps '{names[1]}' without being the same elements")


def run_host(op: Op, record: Record, views: list, objects: list, numbers: tuple) -> None:
    """Copy in, run, copy out. `views` of all tensors that are there, `objects` those of the outputs."""
    device = _devices.host_device()
    for slot, view in zip(record.slots, views):
        _checked_extent(op, slot, view)
    _refuse_overlaps(op, record, views, len(views) - len(objects))
    with device.lock:
        try:
            _copy_and_run(op, record, views, objects, numbers)
        finally:
            device.trim()


def _copy_and_run(op: Op, record: Record, views: list, objects: list, numbers: tuple) -> None:
    device = _devices.host_device()
    first_output = len(views) - len(objects)
    seen: dict = {}  # the very same elements share a buffer: in place
    for i, (slot, view, size) in enumerate(zip(record.slots, views, record.extents)):
        same = (view.address, view.key, size) if size else i
        if same not in seen:
            seen[same] = device.buffer(slot, size)
            if i < first_output:
                device.write(seen[same], view.address, size)
        operand = record.operands[slot]
        operand.buffer, operand.offset = seen[same], 0
    record.set_per_run(op, numbers)
    status = library.kf_call(device.stream.calls, op.symbol, record.pointers, record.numbers)
    if status:
        fail(status)
    for i in range(first_output, len(views)):
        view, size = views[i], record.extents[i]
        buffer = record.operands[record.slots[i]].buffer
        if size == BYTES[view.dtype] * _count(view.shape):
            device.read(buffer, view.address, size)
            continue
        data = bytearray(size)
        device.read(buffer, ctypes.addressof(ctypes.c_char.from_buffer(data)), size)
        _arrays.scatter(objects[i - first_output], view, data)


def _count(shape: tuple) -> int:
    count = 1
    for size in shape:
        count *= size
    return count


# ---- any array ------------------------------------------------------------------------------------


def _stream_of(value) -> int:
    """Where the work on an array's device is ordered: torch's current stream where torch uses CUDA; else the one that
    the array names, else the default one."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        return torch.cuda.current_stream(_arrays.device_of(value)).cuda_stream
    return getattr(value, "__cuda_array_interface__", {}).get("stream") or 0


def _views(op: Op, values: tuple, slots: tuple, stream: int) -> list:
    views: list = []
    for slot, value in zip(slots, values):
        row = op.tensors[slot]
        absent = value is None or value is True or value is False
        if absent and not row.output and not row.optional:
            raise InvalidError(f"{op.name}: needs the tensor '{row.name}' ({' '.join(row.dims)})")
        view = None if absent else _arrays.describe(value, row.name, stream)
        if view is not None and row.output and not view.writable:
            raise InvalidError(f"{op.name}: '{row.name}' is read-only memory")
        views.append(view)
    return views


def _same_device(op: Op, views: list) -> None:
    there = [(slot, view) for slot, view in zip(op.inputs + op.outputs, views) if view is not None]
    for slot, view in there[1:]:
        if view.index != there[0][1].index:
            places = [f"'{op.tensors[s].name}' is on " + place_name(v.index) for s, v in (there[0], (slot, view))]
            raise InvalidError(f"{op.name}: {' and '.join(places)}: one device is needed")


def place_name(index: int) -> str:
    return "the host" if index == HOST else f"cuda:{index}"


def call_any(op: Op, inputs: tuple, numbers: tuple, asked: tuple):
    """The general way: every array is described anew."""
    stream = _stream_of(inputs[0])
    views = _views(op, inputs, op.inputs, stream) + _views(op, asked, op.outputs, stream)
    _same_device(op, views)
    numbers = op.plain(numbers)
    flags = tuple(_asked(value) for value in asked)
    key = (op.lasting(numbers), flags, tuple(None if view is None else view.key for view in views))
    record = op.records.get(key) or keep(op, key, Record(op, views, numbers, asked))
    outputs = list(asked)
    for (i, shape, code), like in zip(record.makes, record.like):
        outputs[i] = _arrays.make(inputs[like], code, shape)
        views[len(op.inputs) + i] = _arrays.describe(outputs[i], op.tensors[op.outputs[i]].name, stream)
    kept = [view for view in views[: len(op.inputs)] if view is not None]
    kept += [views[len(op.inputs) + i] for i in record.results]
    objects = [outputs[i] for i in record.results]
    if record.index == HOST:
        run_host(op, record, kept, objects, numbers)
    else:
        others = tuple({view.stream for view in kept if view.stream} - {stream})
        run_direct(op, record, stream, [view.address for view in kept], numbers, others)
    return record.returned(objects)
