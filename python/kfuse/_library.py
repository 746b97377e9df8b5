"""libkfuse through ctypes: where it is, its structs, its errors. SPDX-License-Identifier: Apache-2.0"""

from __future__ import annotations

import ctypes
import ctypes.util
import enum
import os
import pathlib
from typing import NoReturn

MAX_RANK = 8


class Status(enum.IntEnum):
    """What a call of the library can end with; the names of kfuse.h."""

    KF_OK = 0
    KF_UNAVAILABLE = 1
    KF_UNSUPPORTED = 2
    KF_INVALID = 3
    KF_OUT_OF_MEMORY = 4
    KF_BUILD_FAILED = 5
    KF_DEVICE_FAILED = 6
    KF_WRONG_RESULT = 7
    KF_IO = 8


class Error(Exception):
    """A call that did not end with KF_OK: the library's sentence, and its `status`."""

    status = Status.KF_DEVICE_FAILED


class UnavailableError(Error, RuntimeError):
    """A backend, driver, device or library that is not here."""

    status = Status.KF_UNAVAILABLE


class UnsupportedError(Error, NotImplementedError):
    """The device is here, but cannot do this."""

    status = Status.KF_UNSUPPORTED


class InvalidError(Error, ValueError):
    """The arguments are wrong."""

    status = Status.KF_INVALID


class OutOfMemoryError(Error, MemoryError):
    """Host or device."""

    status = Status.KF_OUT_OF_MEMORY


class BuildError(Error, RuntimeError):
    """A kernel does not compile or load."""

    status = Status.KF_BUILD_FAILED


class DeviceError(Error, RuntimeError):
    """The driver reported a failure."""

    status = Status.KF_DEVICE_FAILED


class FileError(Error, OSError):
    """A file could not be read or written, or is not what it should be."""

    status = Status.KF_IO


_ERRORS = {
    kind.status: kind
    for kind in (
        UnavailableError,
        UnsupportedError,
        InvalidError,
        OutOfMemoryError,
        BuildError,
        DeviceError,
        FileError,
    )
}


# ---- structs of kfuse.h ---------------------------------------------------------------------------


class Tensor(ctypes.Structure):
    _fields_ = [
        ("dtype", ctypes.c_int),
        ("rank", ctypes.c_int),
        ("size", ctypes.c_int64 * MAX_RANK),
        ("stride", ctypes.c_int64 * MAX_RANK),
        ("alignment", ctypes.c_int32),
    ]


class Operand(ctypes.Structure):
    _fields_ = [("buffer", ctypes.c_void_p), ("offset", ctypes.c_int64), ("tensor", Tensor)]


class Number(ctypes.Union):
    _fields_ = [("i", ctypes.c_int64), ("f", ctypes.c_double)]


class DeviceDesc(ctypes.Structure):
    _fields_ = [
        ("backend", ctypes.c_char_p),
        ("index", ctypes.c_int),
        ("adopt", ctypes.c_bool),
        ("native", ctypes.c_void_p),
        ("native_device", ctypes.c_void_p),
        ("read_kernels", ctypes.c_bool),
        ("no_cache", ctypes.c_bool),
        ("target", ctypes.c_void_p),
    ]


class Target(ctypes.Structure):
    _fields_ = [
        ("capabilities", ctypes.c_uint64),
        *((name, ctypes.c_int) for name in ("compute_capability", "units", "warp", "max_threads")),
        *((name, ctypes.c_int) for name in ("max_threads_per_unit", "max_cluster")),
        *((name, ctypes.c_int64) for name in ("local_bytes", "local_bytes_per_unit", "registers_per_unit")),
        *((name, ctypes.c_int64) for name in ("cache_bytes", "memory_bytes", "max_buffer_bytes")),
        *((name, ctypes.c_int64) for name in ("max_groups", "max_turns")),
        ("base_alignment", ctypes.c_int),
    ]


class DeviceInfo(ctypes.Structure):
    _fields_ = [
        ("backend", ctypes.c_char * 16),
        ("id", ctypes.c_char * 24),
        ("name", ctypes.c_char * 128),
        ("platform", ctypes.c_char * 96),
        ("driver", ctypes.c_char * 96),
        ("arch", ctypes.c_char * 32),
        ("pci", ctypes.c_char * 24),
        ("uuid", ctypes.c_uint8 * 16),
        ("has_uuid", ctypes.c_bool),
        ("target", Target),
    ]


class QueueDesc(ctypes.Structure):
    _fields_ = [("adopt", ctypes.c_bool), ("native", ctypes.c_void_p)]


class BufferDesc(ctypes.Structure):
    _fields_ = [
        ("bytes", ctypes.c_size_t),
        ("adopt", ctypes.c_bool),
        ("native", ctypes.c_void_p),
        ("native_offset", ctypes.c_size_t),
    ]


class OpInfo(ctypes.Structure):
    _fields_ = [
        ("name", ctypes.c_char_p),
        ("summary", ctypes.c_char_p),
        ("formula", ctypes.c_char_p),
        ("dims", ctypes.c_char_p),
        ("tensor_count", ctypes.c_int),
        ("attribute_count", ctypes.c_int),
        ("any_axis", ctypes.c_bool),
    ]


class TensorInfo(ctypes.Structure):
    _fields_ = [
        ("name", ctypes.c_char_p),
        ("dims", ctypes.c_char_p),
        ("in_place", ctypes.c_char_p),
        ("scalar", ctypes.c_char_p),
        ("below", ctypes.c_char_p),
        ("help", ctypes.c_char_p),
        ("dtype", ctypes.c_int),
        ("output", ctypes.c_bool),
        ("optional", ctypes.c_bool),
    ]


class AttributeInfo(ctypes.Structure):
    _fields_ = [
        ("name", ctypes.c_char_p),
        ("words", ctypes.c_char_p),
        ("help", ctypes.c_char_p),
        ("fallback", ctypes.c_double),
        ("real", ctypes.c_bool),
        ("per_run", ctypes.c_bool),
    ]


# ---- the library ----------------------------------------------------------------------------------

_MISSING = """kfuse: libkfuse.so is not here ({tried}). This package is Python alone and builds nothing. In the \
tree of kfuse: cmake -B build-lib -DKFUSE_TOOLS=OFF -DKFUSE_TESTS=OFF && cmake --build build-lib && \
cmake --install build-lib, then ldconfig; or name the library: KFUSE_LIBRARY=/path/to/libkfuse.so"""


def _candidates() -> list[str]:
    """Paths and names to try, in order; a library named by KFUSE_LIBRARY is the only one."""
    named = os.environ.get("KFUSE_LIBRARY")
    if named:
        return [named]
    package = pathlib.Path(__file__).resolve().parent
    paths = [package / "libkfuse.so"]
    tree = package.parent.parent
    if (tree / "include" / "kfuse" / "kfuse.h").exists():
        paths += [tree / build / "libkfuse.so" for build in ("build", "build-lib")]
    found = [str(path) for path in paths if path.exists()]
    return found + [name for name in (ctypes.util.find_library("kfuse"), "libkfuse.so.0") if name]


def _load() -> ctypes.CDLL:
    tried = []
    for name in _candidates():
        try:
            library = ctypes.CDLL(name)
        except OSError as error:
            tried.append(str(error))
            continue
        if not hasattr(library, "kf_op_count"):
            tried.append(f"{name} is older than this package")
            continue
        return library
    raise ImportError(_MISSING.format(tried="; ".join(tried)))


def _prototypes(library: ctypes.CDLL) -> None:
    handle, out, text, number = ctypes.c_void_p, ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int
    size = ctypes.c_size_t
    for name, arguments, result in (
        ("kf_error", (), text),
        ("kf_version", (), text),
        ("kf_device_enumerate", (text, out, number, out), number),
        ("kf_device_open", (out, out), number),
        ("kf_queue_open", (handle, out, out), number),
        ("kf_buffer_open", (handle, out, out), number),
        ("kf_buffer_close", (handle,), None),
        ("kf_buffer_write", (handle, handle, size, handle, size), number),
        ("kf_buffer_read", (handle, handle, size, handle, size), number),
        ("kf_calls_open", (handle, number, out), number),
        ("kf_calls_close", (handle,), None),
        ("kf_queue_close", (handle,), None),
        ("kf_queue_wait", (handle, handle), number),
        ("kf_calls_ready", (handle,), number),
        ("kf_call", (handle, text, handle, handle), number),
        ("kf_op_count", (), number),
        ("kf_op_describe", (number, out), number),
        ("kf_op_tensor", (number, number, out), number),
        ("kf_op_attribute", (number, number, out), number),
    ):
        function = getattr(library, name)
        function.argtypes, function.restype = arguments, result


library = _load()
_prototypes(library)

# kf_call without a check of each argument, for those that are pointers of ctypes already.
ready_call = library["kf_call"]
ready_call.restype = ctypes.c_int


def fail(status: int) -> NoReturn:
    """Raises the last failure of this thread."""
    sentence = library.kf_error().decode("utf-8", "replace")
    raise _ERRORS.get(Status(status), Error)(sentence)


def check(status: int) -> None:
    if status:
        fail(status)


def opened(function, *arguments) -> int:
    """The handle that an ..._open call gives."""
    handle = ctypes.c_void_p()
    check(function(*arguments, ctypes.byref(handle)))
    return handle.value
