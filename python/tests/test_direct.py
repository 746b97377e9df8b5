"""Arrays that lie in a device's memory, on the null backend: host memory is taken for a device's, launches do
nothing, and what reaches the library is what is looked at. With KFUSE_TEST_DIRECT=cuda the CUDA backend is in its
place, on a driver that has no GPU behind it (tests/fake_cuda). SPDX-License-Identifier: Apache-2.0"""

import ctypes
import os
import unittest

import numpy as np

import kfuse
from kfuse import _arrays, _devices
from kfuse._library import library

_devices.direct_backend = os.environ.get("KFUSE_TEST_DIRECT", "null").encode()


class Held:
    """Memory of a library that says where it lies through `__cuda_array_interface__`, or through DLPack."""

    def __init__(self, array, stream=None, read_only=False, dlpack=False, versioned=False):
        self.array, self.stream, self.read_only = array, stream, read_only
        self.dlpack, self.versioned = dlpack, versioned

    def __getattr__(self, name):
        if name == "__cuda_array_interface__" and not self.dlpack:
            told = dict(self.array.__array_interface__)
            told.update(version=3, data=(told["data"][0], self.read_only), stream=self.stream)
            return told
        if name == "__dlpack_device__" and self.dlpack:
            return lambda: (2, 0)
        raise AttributeError(name)

    def __array_namespace__(self):
        return Space()

    def __dlpack__(self, stream=None, **named):
        if "max_version" in named and not self.versioned:
            raise TypeError("an older one")
        self.stream_asked = stream
        self.managed, name = dlpack_struct(self.array, self.versioned, self.read_only)
        new = ctypes.pythonapi.PyCapsule_New
        new.argtypes, new.restype = (ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p), ctypes.py_object
        return new(ctypes.addressof(self.managed), name, None)


class Space:
    """Makes arrays of the same kind."""

    float32 = np.dtype("float32")

    def empty(self, shape, dtype):
        return Held(np.empty(shape, dtype))


NAMES = b"dltensor", b"dltensor_versioned"  # a capsule keeps no copy


def dlpack_struct(array, versioned, read_only):
    managed = _arrays._Versioned() if versioned else _arrays._DLTensor()
    tensor = managed.tensor if versioned else managed
    tensor.data, tensor.device_type, tensor.ndim = array.ctypes.data - 16, 2, array.ndim
    tensor.byte_offset = 16
    tensor.code, tensor.bits, tensor.lanes = (2 if array.dtype.kind == "f" else 0), array.itemsize * 8, 1
    managed.kept = [(ctypes.c_int64 * array.ndim)(*values) for values in (array.shape, array.strides)]
    managed.kept[1][:] = [step // array.itemsize for step in array.strides]
    tensor.shape, tensor.strides = managed.kept
    if versioned:
        managed.flags = 1 if read_only else 0
    return managed, NAMES[versioned]


def seen(op, count=1):
    """Addresses that the last record of an op was run with."""
    record = list(op.records.values())[-1]
    return [_devices.BASE + operand.offset * size for operand, size in record.places][:count]


def op_named(name):
    from kfuse._table import OPS

    return next(op for op in OPS if op.name == name)


class DeviceMemory(unittest.TestCase):
    """Mistakes: an address that is shifted; strides or a dtype misread; memory that is copied; another stream."""

    def setUp(self):
        self.array = np.zeros((8, 64), np.float32)

    def test_addresses_arrive(self):
        op = op_named("softmax")
        x, y = Held(self.array[1:, 16:48]), Held(np.zeros((7, 32), np.float32))
        self.assertIs(kfuse.softmax(x, out=y), y)
        self.assertEqual(seen(op, 2), [self.array.ctypes.data + 4 * 80, y.array.ctypes.data])
        operand = list(op.records.values())[-1].operands[0]
        self.assertEqual((operand.tensor.rank, list(operand.tensor.size[:2])), (2, [7, 32]))
        self.assertEqual(list(operand.tensor.stride[:2]), [64, 1])

    def test_results_are_made_by_the_maker_of_the_input(self):
        made = kfuse.layer_norm(Held(self.array), mean=True)
        self.assertIsInstance(made.y, Held)
        self.assertEqual(made.mean.array.shape, (8,))
        x = Held(self.array)
        x.__array_namespace__ = None
        with self.assertRaisesRegex(kfuse.InvalidError, "out="):
            kfuse.softmax(x)

    def test_dlpack(self):
        op = op_named("rms_norm")
        for versioned in (False, True):
            x = Held(self.array[:, :32], dlpack=True, versioned=versioned)
            kfuse.rms_norm(x, out=Held(np.zeros((8, 32), np.float32)))
            self.assertEqual(seen(op), [self.array.ctypes.data])
            self.assertEqual(list(list(op.records.values())[-1].operands[0].tensor.stride[:2]), [64, 1])
            self.assertEqual(x.stream_asked, 1)
        half = Held(self.array.astype(np.float16), dlpack=True)
        with self.assertRaisesRegex(kfuse.InvalidError, "different dtypes"):
            kfuse.rms_norm(half, out=Held(np.zeros((8, 64), np.float32)))

    @unittest.skipUnless(_devices.direct_backend == b"null", "these streams are numbers that nobody opened")
    def test_streams_are_kept_apart(self):
        device = _devices.direct_device(0)
        y = np.zeros_like(self.array)  # one for all: memory of another alignment would have another exec
        for stream in (None, 1, 4096, 4096):
            kfuse.softmax(Held(self.array, stream), out=Held(y))
        self.assertLessEqual({0, 1, 4096}, set(device.streams))
        before = library.kf_calls_ready(device.streams[4096].calls)
        kfuse.softmax(Held(self.array, 4096), out=Held(y, 8192))
        self.assertIn(8192, device.streams)  # its work is waited for
        self.assertEqual(library.kf_calls_ready(device.streams[4096].calls), before)
        for stream in range(1 << 20, (1 << 20) + 100):
            kfuse.softmax(Held(self.array, stream), out=Held(np.zeros_like(self.array)))
        self.assertLessEqual(len(device.streams), _devices.STREAMS)

    @unittest.skipUnless(_devices.direct_backend == b"null", "these streams are numbers that nobody opened")
    def test_the_stream_used_longest_ago_makes_room(self):
        """Mistake: a call that closes the queue that it is about to use."""
        device = _devices.direct_device(0)

        def run(stream, other):
            kfuse.softmax(Held(self.array, stream), out=Held(np.zeros_like(self.array), other))

        first = 1 << 24
        for stream in range(first, first + _devices.STREAMS):
            run(stream, stream)
        queue = device.streams[first].queue
        run(first, 1 << 28)  # a place for it is needed, and `first` was used longest ago
        self.assertEqual(device.streams[first].queue, queue)
        for stream in range(first + 100, first + 300):
            run(stream, stream)
            run(first, first)
        self.assertEqual(device.streams[first].queue, queue)

    def test_the_library_sees_overlaps(self):
        board = np.zeros((8, 128), np.float32)
        left, right = Held(board[:, :64]), Held(board[:, 64:])
        kfuse.softmax(left, out=right)  # side by side
        kfuse.softmax(left, out=left)
        with self.assertRaisesRegex(kfuse.InvalidError, "overlaps"):
            kfuse.softmax(left, out=Held(board[:, 1:65]))
        with self.assertRaisesRegex(kfuse.InvalidError, "overlaps"):
            kfuse.layer_norm_backward(left, right, None, *[Held(np.zeros(8, np.float32))] * 2, out=right)

    def test_refusals(self):
        place = Held(np.zeros_like(self.array))
        with self.assertRaisesRegex(kfuse.InvalidError, "one device"):
            kfuse.softmax(Held(self.array), out=np.zeros_like(self.array))
        for fixed in (Held(self.array, read_only=True), Held(self.array, None, True, True, True)):
            with self.assertRaisesRegex(kfuse.InvalidError, "read-only"):
                kfuse.softmax(place, out=fixed)
        odd = np.zeros(8 * 64 * 4 + 1, np.uint8)[1:].view(np.float32).reshape(8, 64)
        with self.assertRaisesRegex(kfuse.InvalidError, "aligned"):
            kfuse.softmax(Held(odd), out=place)
        with self.assertRaisesRegex(kfuse.InvalidError, "f8"):
            kfuse.softmax(Held(self.array.astype(float)), out=place)

    @unittest.skipUnless(_devices.direct_backend == b"null", "a thousand kernels would be compiled")
    def test_many_shapes(self):
        """Mistake: a table of what was seen that grows for ever."""
        op = op_named("swiglu")
        for width in range(1, _call_records() + 20):
            x = Held(np.zeros((1, width), np.float32))
            kfuse.swiglu(x, x, out=x)
        self.assertLessEqual(len(op.records), _call_records())


def _call_records():
    from kfuse import _call

    return _call.RECORDS


if __name__ == "__main__":
    unittest.main()
