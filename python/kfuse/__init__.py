"""Fused GPU kernels on CUDA and OpenCL: a thin layer over libkfuse. SPDX-License-Identifier: Apache-2.0

    y = kfuse.softmax(x)
    y, mean, rstd = kfuse.layer_norm(x, weight, bias, eps=1e-6, mean=True, rstd=True)
    kfuse.softmax(x, out=x)

There is a function for every operation of the library, made from its tables when this package is imported: help()
tells what each takes. Arrays are torch tensors, NumPy arrays, or anything with `__cuda_array_interface__` or DLPack.
What lies in a CUDA device's memory is worked on where it lies, on torch's current stream; what lies in host memory is
copied to the first OpenCL device (KFUSE_BACKEND and KFUSE_DEVICE name another) and back. Failures are kfuse.Error and
its kinds, with the library's sentence."""

import sys as _sys

from . import _functions
from ._library import (
    BuildError,
    DeviceError,
    Error,
    FileError,
    InvalidError,
    OutOfMemoryError,
    Status,
    UnavailableError,
    UnsupportedError,
)
from ._library import library as _lib

__version__ = _lib.kf_version().decode()

globals().update(_functions.FUNCTIONS)

__all__ = [
    "BuildError",
    "DeviceError",
    "Error",
    "FileError",
    "InvalidError",
    "OutOfMemoryError",
    "Status",
    "UnavailableError",
    "UnsupportedError",
    *_functions.FUNCTIONS,
]

if "torch" in _sys.modules:
    from . import torch as torch  # torch.compile is to know the ops from the first call on
