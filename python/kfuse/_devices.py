"""Devices, and the streams of work on them, kept from call to call. SPDX-License-Identifier: Apache-2.0

A device of the library belongs to one thread at a time: each has a lock, held while a call enqueues. Device memory
that others own is reached through one wrapped buffer that spans the address space: an operand is then its address
as an offset, nothing is adopted per call, and the library sees every overlap."""

from __future__ import annotations

import collections
import ctypes
import os
import sys
import threading

from ._library import (
    BufferDesc,
    DeviceDesc,
    DeviceInfo,
    InvalidError,
    QueueDesc,
    UnavailableError,
    check,
    library,
    opened,
)

BASE = 4096  # where the spanning buffer starts: kernels take a null pointer for an absent tensor
SPAN = 1 << 57  # addresses of today's GPUs have 57 bits at most
STREAMS = 64  # kept per device
HOST_EXECS = 256  # kept for host memory
KEEP_BYTES = 64 << 20  # a larger staging buffer is given back after the call

direct_backend = b"cuda"  # tests put the null backend here
pretend = False  # tests and measurements: host memory is taken for device memory


def _execs() -> int:
    """Kept per stream, so that graphs which launch them stay right."""
    text = os.environ.get("KFUSE_EXECS") or "1024"
    if not text.isdecimal() or not 1 <= int(text) <= 1 << 20:
        raise InvalidError(f"KFUSE_EXECS={text}: a whole number from 1 to {1 << 20} is needed")
    return int(text)


EXECS = _execs()


def capturing(index: int) -> bool:
    """Does torch record its current stream of that device into a graph?"""
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_initialized():
        return False
    with torch.cuda.device(index):
        return torch.cuda.is_current_stream_capturing()


class Stream:
    """One in-order queue and the execs prepared for it."""

    def __init__(self, device: int, adopt: bool, native: int | None, room: int):
        description = QueueDesc(adopt=adopt, native=native)
        self.queue = opened(library.kf_queue_open, device, ctypes.byref(description))
        # What ran here, the last one last. These are told apart more finely than execs are, and no more of them are
        # kept: what is among them has its exec still.
        self.ran: collections.OrderedDict = collections.OrderedDict()
        self.room = room
        try:
            self.calls = opened(library.kf_calls_open, self.queue, room)
        except Exception:
            library.kf_queue_close(self.queue)
            raise
        self.calls_place = ctypes.byref(ctypes.c_char.from_address(self.calls))  # what ready_call takes

    def note(self, what) -> None:
        """That this ran, for the first time in a while."""
        self.ran[what] = None
        if len(self.ran) > self.room:
            self.ran.popitem(last=False)

    def close(self) -> None:
        library.kf_calls_close(self.calls)
        library.kf_queue_close(self.queue)


class DirectDevice:
    """A device whose memory and streams the caller owns."""

    def __init__(self, index: int):
        self.lock = threading.Lock()
        description = DeviceDesc(backend=direct_backend, index=index)
        self.handle = opened(library.kf_device_open, ctypes.byref(description))
        span = BufferDesc(bytes=SPAN, adopt=True, native=BASE)
        self.memory = opened(library.kf_buffer_open, self.handle, ctypes.byref(span))
        self.streams: collections.OrderedDict[int, Stream] = collections.OrderedDict()
        self.latest: tuple[int | None, Stream | None] = (None, None)  # the last one of these, for the next call

    def stream(self, native: int) -> Stream:
        """That of a native handle, made when it is first seen; the lock is held. The one used longest ago makes room:
        none of the same call, which has far fewer."""
        try:
            self.streams.move_to_end(native)
        except KeyError:
            if len(self.streams) >= STREAMS:
                self.streams.popitem(last=False)[1].close()
            self.streams[native] = Stream(self.handle, True, native, EXECS)
        self.latest = native, self.streams[native]
        return self.streams[native]


class HostDevice:
    """A device that works on copies of host memory, in buffers of its own, one per tensor of an op."""

    def __init__(self, backend: bytes, index: int):
        self.lock = threading.Lock()
        description = DeviceDesc(backend=backend, index=index)
        self.handle = opened(library.kf_device_open, ctypes.byref(description))
        self.stream = Stream(self.handle, False, None, HOST_EXECS)
        self.buffers: dict[int, tuple[int, int]] = {}

    def buffer(self, slot: int, size: int) -> int:
        """One of at least `size` bytes; what was in it is gone."""
        handle, room = self.buffers.get(slot, (0, 0))
        if room < size or not handle:
            self._drop(slot)
            room = max(size, min(2 * room, KEEP_BYTES), 4096)
            description = BufferDesc(bytes=room)
            handle = opened(library.kf_buffer_open, self.handle, ctypes.byref(description))
            self.buffers[slot] = handle, room
        return handle

    def _drop(self, slot: int) -> None:
        handle, _ = self.buffers.pop(slot, (0, 0))
        if handle:
            library.kf_buffer_close(handle)

    def trim(self) -> None:
        for slot in [slot for slot, (_, room) in self.buffers.items() if room > KEEP_BYTES]:
            self._drop(slot)

    def write(self, buffer: int, address: int, size: int) -> None:
        if size:
            check(library.kf_buffer_write(self.stream.queue, buffer, 0, address, size))

    def read(self, buffer: int, address: int, size: int) -> None:
        if size:
            check(library.kf_buffer_read(self.stream.queue, buffer, 0, address, size))


_making = threading.Lock()
_direct: dict[int, DirectDevice] = {}
_host: list[HostDevice] = []


class _Forked:
    """In the place of the locks where the process is a copy of one that had opened a device: whoever wants one hears
    why instead of waiting for threads that are not here."""

    def __enter__(self):
        raise UnavailableError(
            "this process was forked from one that had used kfuse, and no driver outlives that: fork before the first "
            "call, or start processes by 'spawn'"
        )

    def __exit__(self, *_):
        pass


def _after_fork() -> None:
    global _making
    devices = [*_direct.values(), *_host]
    if not devices and not _making.locked():
        return
    _making = _Forked()
    for device in devices:
        device.lock = _Forked()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def direct_device(index: int) -> DirectDevice:
    found = _direct.get(index)
    if found is None:
        with _making:
            found = _direct.get(index)
            if found is None:
                found = _direct[index] = DirectDevice(index)
    return found


def devices_of(backend: str) -> list[DeviceInfo]:
    room = (DeviceInfo * 64)()
    count = ctypes.c_int()
    check(library.kf_device_enumerate(backend.encode(), room, len(room), ctypes.byref(count)))
    return list(room[: min(count.value, len(room))])


def _chosen() -> tuple[bytes, int]:
    """The first OpenCL device, unless KFUSE_BACKEND and KFUSE_DEVICE (an id or a part of a name) say another: as
    for the command."""
    backend, wanted = os.environ.get("KFUSE_BACKEND"), os.environ.get("KFUSE_DEVICE")
    if not wanted:
        return (backend or "opencl").split(",")[0].encode(), 0
    found = []
    for name in backend.split(",") if backend else ("opencl", "cuda"):
        try:
            infos = devices_of(name)
        except UnavailableError:
            continue
        for index, info in enumerate(infos):
            found.append(f"{info.id.decode()} {info.name.decode(errors='replace')}")
            if wanted == info.id.decode() or wanted.lower() in info.name.decode(errors="replace").lower():
                return name.encode(), index
    there = ", ".join(found) or "nothing"
    raise UnavailableError(f"KFUSE_DEVICE={wanted}: no device is called so; there is {there}")


def host_device() -> HostDevice:
    """Where arrays in host memory are worked on."""
    if not _host:
        with _making:
            if not _host:
                _host.append(HostDevice(*_chosen()))
    return _host[0]
