"""What an array is: where it lies, its dtype, shape and strides. SPDX-License-Identifier: Apache-2.0

NumPy arrays, torch tensors, and whatever has `__cuda_array_interface__` or DLPack. Neither NumPy nor torch is
imported before one of theirs is seen."""

from __future__ import annotations

import contextlib
import ctypes
import sys

from . import _devices
from ._library import InvalidError
from ._table import BYTES, CODES, NAMES

HOST = -1  # index of a device: host memory
_DLPACK_CPU, _DLPACK_CUDA, _DLPACK_CUDA_MANAGED = 1, 2, 13


class View:
    """An array as the library sees it; strides count elements. `owner` keeps the memory, `stream` is the native
    handle of the one that still works on it (None: nothing is known to)."""

    __slots__ = ("address", "dtype", "shape", "stride", "index", "writable", "owner", "stream")

    def __init__(self, address, dtype, shape, stride, index, writable, owner, stream=None):
        self.address = address
        self.dtype = dtype
        self.shape = tuple(shape)
        self.stride = contiguous(self.shape) if 0 in self.shape else tuple(stride)  # of nothing: NumPy says 0
        self.index = index
        self.writable = writable
        self.owner = owner
        self.stream = stream

    @property
    def key(self) -> tuple:
        return self.dtype, self.shape, self.stride, self.index


def contiguous(shape: tuple) -> tuple:
    stride, step = [], 1
    for size in reversed(shape):
        stride.append(step)
        step *= size
    return tuple(reversed(stride))


def extent(shape: tuple, stride: tuple) -> int:
    """Elements from the first to one past the last."""
    if 0 in shape:
        return 0
    return 1 + sum((size - 1) * step for size, step in zip(shape, stride))


def is_torch(value) -> bool:
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(value, torch.Tensor)


def _code(name: str, what: str) -> int:
    code = CODES.get(name)
    if not code:
        raise InvalidError(f"'{what}' is {name}; the dtypes are {', '.join(CODES)}")
    return code


def _in_elements(strides, code: int, what: str) -> tuple:
    size = BYTES[code]
    if any(step % size for step in strides):
        raise InvalidError(f"the strides of '{what}' are no whole elements")
    return tuple(step // size for step in strides)


# ---- kinds ----------------------------------------------------------------------------------------


def _of_torch(tensor, what: str) -> View:
    code = _code(str(tensor.dtype)[len("torch.") :], what)
    device = tensor.device
    if device.type not in ("cpu", "cuda"):
        raise InvalidError(f"'{what}' is on {device}; kfuse works on CUDA devices and on host memory")
    if tensor.is_neg():
        raise InvalidError(f"'{what}' is negated lazily (is_neg()): its memory holds other values; resolve_neg() first")
    index = device.index if device.type == "cuda" else HOST
    index = 0 if _devices.pretend and index == HOST else index
    return View(tensor.data_ptr(), code, tensor.shape, tensor.stride(), index, True, tensor)


def _of_numpy(array, what: str) -> View:
    if not array.dtype.isnative:
        raise InvalidError(f"'{what}' has bytes in another order than this machine's")
    if hasattr(array, "mask"):
        raise InvalidError(f"'{what}' is masked (numpy.ma), which no operation looks at: fill it first (filled())")
    code = _code(array.dtype.name, what)
    strides = _in_elements(array.strides, code, what)
    address = array.__array_interface__["data"][0]
    index = 0 if _devices.pretend else HOST
    return View(address, code, array.shape, strides, index, array.flags.writeable, array)


_TYPE_NAMES = {"f4": "float32", "f2": "float16", "i4": "int32", "i8": "int64"}


def _of_cuda_interface(value, what: str) -> View:
    told = value.__cuda_array_interface__
    kind = told["typestr"]
    if kind[0] == ">":
        raise InvalidError(f"'{what}' has bytes in another order than this machine's")
    code = _code(_TYPE_NAMES.get(kind[1:], kind), what)
    shape = tuple(told["shape"])
    strides = told.get("strides")
    strides = contiguous(shape) if strides is None else _in_elements(strides, code, what)
    address, read_only = told["data"]
    return View(address or 0, code, shape, strides, device_of(value), not read_only, value, told.get("stream"))


class _DLTensor(ctypes.Structure):
    _fields_ = [
        ("data", ctypes.c_void_p),
        ("device_type", ctypes.c_int32),
        ("device_id", ctypes.c_int32),
        ("ndim", ctypes.c_int32),
        ("code", ctypes.c_uint8),
        ("bits", ctypes.c_uint8),
        ("lanes", ctypes.c_uint16),
        ("shape", ctypes.POINTER(ctypes.c_int64)),
        ("strides", ctypes.POINTER(ctypes.c_int64)),
        ("byte_offset", ctypes.c_uint64),
    ]


class _Versioned(ctypes.Structure):
    _fields_ = [
        ("major", ctypes.c_uint32),
        ("minor", ctypes.c_uint32),
        ("manager_context", ctypes.c_void_p),
        ("deleter", ctypes.c_void_p),
        ("flags", ctypes.c_uint64),
        ("tensor", _DLTensor),
    ]


_DL_NAMES = {(2, 32): "float32", (2, 16): "float16", (4, 16): "bfloat16", (0, 32): "int32", (0, 64): "int64"}
_capsule = ctypes.pythonapi.PyCapsule_GetPointer
_capsule.argtypes, _capsule.restype = (ctypes.py_object, ctypes.c_char_p), ctypes.c_void_p
_capsule_named = ctypes.pythonapi.PyCapsule_IsValid
_capsule_named.argtypes, _capsule_named.restype = (ctypes.py_object, ctypes.c_char_p), ctypes.c_int


def _capsule_of(value, stream):
    """Asks for the newer form first; a capsule that nobody renames frees what it holds with itself."""
    try:
        return value.__dlpack__(stream=stream, max_version=(1, 0))
    except TypeError:
        return value.__dlpack__(stream=stream)


def _of_capsule(value, what: str, index: int, stream) -> View:
    capsule = _capsule_of(value, stream)
    writable = True
    if _capsule_named(capsule, b"dltensor_versioned"):
        managed = _Versioned.from_address(_capsule(capsule, b"dltensor_versioned"))
        tensor, writable = managed.tensor, not managed.flags & 1
    else:
        tensor = _DLTensor.from_address(_capsule(capsule, b"dltensor"))
    code = _code(_DL_NAMES.get((tensor.code, tensor.bits), f"of DLPack's type {tensor.code}"), what)
    shape = tuple(tensor.shape[: tensor.ndim])
    strides = tuple(tensor.strides[: tensor.ndim]) if tensor.strides else contiguous(shape)
    address = (tensor.data or 0) + tensor.byte_offset
    return View(address, code, shape, strides, index, writable, (value, capsule))


def _of_dlpack(value, what: str, stream: int) -> View:
    kind, index = value.__dlpack_device__()
    if kind in (_DLPACK_CUDA, _DLPACK_CUDA_MANAGED):
        return _of_capsule(value, what, index, stream or 1)  # DLPack calls the legacy default stream 1
    if kind == _DLPACK_CPU:
        return _of_capsule(value, what, HOST, None)
    raise InvalidError(f"'{what}' is on DLPack's device {kind}; kfuse takes CUDA devices and host memory")


def device_of(value) -> int:
    """Index of the CUDA device that an array lies on; 0 where it does not tell."""
    if is_torch(value):
        return max(value.get_device(), 0)
    if hasattr(value, "__cuda_array_interface__"):
        return getattr(getattr(value, "device", None), "id", 0)
    return value.__dlpack_device__()[1] if hasattr(value, "__dlpack_device__") else 0


def describe(value, what: str, stream: int = 0) -> View:
    """The view of any array; `stream` is where its work will be ordered."""
    if is_torch(value):
        return _of_torch(value, what)
    numpy = sys.modules.get("numpy")
    if numpy is not None and isinstance(value, numpy.ndarray):
        return _of_numpy(value, what)
    if hasattr(value, "__cuda_array_interface__"):
        return _of_cuda_interface(value, what)
    if hasattr(value, "__dlpack_device__"):
        return _of_dlpack(value, what, stream)
    raise TypeError(
        f"'{what}' is a {type(value).__name__}; an array is needed: of NumPy or torch, or anything with DLPack or "
        "__cuda_array_interface__"
    )


# ---- overlaps -------------------------------------------------------------------------------------


def _elements(view: View) -> tuple:
    """Which ones: the stride of an axis of one element says nothing."""
    return view.address, view.dtype, view.shape, tuple(s for s, n in zip(view.stride, view.shape) if n != 1)


def overlap(one: View, other: View) -> bool:
    """Do two arrays in host memory share bytes, other than by being the same elements?"""
    sizes = [extent(view.shape, view.stride) * BYTES[view.dtype] for view in (one, other)]
    apart = one.address + sizes[0] <= other.address or other.address + sizes[1] <= one.address
    if apart or not all(sizes) or _elements(one) == _elements(other):
        return False
    try:
        import numpy
    except ImportError:  # torch alone: what lies side by side in the same rows is not told apart
        return True
    arrays = [_over(numpy, view, size) for view, size in zip((one, other), sizes)]
    try:
        return bool(numpy.shares_memory(*arrays, max_work=1 << 16))
    except RuntimeError:  # too hard to say
        return True


def _over(numpy, view: View, size: int):
    """A NumPy array of the elements of a view, as bytes of their size."""
    memory = (ctypes.c_char * size).from_address(view.address)
    steps = tuple(step * BYTES[view.dtype] for step in view.stride)
    return numpy.ndarray(view.shape, f"V{BYTES[view.dtype]}", memory, strides=steps)


# ---- results --------------------------------------------------------------------------------------


def make(like, code: int, shape: tuple):
    """A new contiguous array of the kind of `like`, on its device."""
    name = NAMES[code]
    torch, numpy = sys.modules.get("torch"), sys.modules.get("numpy")
    if is_torch(like):
        return torch.empty(shape, dtype=getattr(torch, name), device=like.device)
    host = numpy is not None and isinstance(like, numpy.ndarray)
    if host or (hasattr(like, "__dlpack_device__") and like.__dlpack_device__()[0] == _DLPACK_CPU):
        import numpy

        same = host and like.dtype.name == name  # bfloat16 is another package's
        return numpy.empty(shape, dtype=like.dtype if same else name)
    named = getattr(like, "__array_namespace__", None)
    package = sys.modules.get(type(like).__module__.partition(".")[0])  # CuPy's arrays name none
    space = named() if named is not None else package
    if hasattr(space, "empty") and hasattr(space, name):
        device = getattr(like, "device", None)
        with device if hasattr(device, "__enter__") else contextlib.nullcontext():
            return space.empty(shape, dtype=getattr(space, name))
    raise InvalidError(f"nothing is known about making a {type(like).__name__}: give the results their place (out=...)")


def scatter(value, view: View, data) -> None:
    """Elements of `data`, which has the strides of the view, into the array: what lies between stays."""
    if is_torch(value):
        torch = sys.modules["torch"]
        flat = torch.frombuffer(data, dtype=value.dtype)
        value.copy_(flat.as_strided(view.shape, view.stride))
        return
    import numpy

    size = extent(view.shape, view.stride) * BYTES[view.dtype]
    array = _over(numpy, view, size)
    array[...] = numpy.ndarray(view.shape, array.dtype, data, strides=array.strides)
