"""libkfuse in this process, through ctypes and nothing but <kfuse/kfuse.h>: on torch's CUDA context and stream, or on
an OpenCL device for tensors of the host. SPDX-License-Identifier: Apache-2.0"""

import ctypes
import os
from ctypes import POINTER, Structure, byref, c_bool, c_char, c_char_p, c_double, c_int, c_int32, c_int64, c_size_t
from ctypes import c_void_p

from provider import Call, Missing, Peer, Refused

MAX_RANK = 8
DTYPES = {"f32": 1, "f16": 2, "bf16": 3, "i32": 4, "i64": 5}
UNSUPPORTED = 2
BUILDS = ("build", "build-gpu", "build-lib", "build-ci", "build-dev")
ALIGNMENTS = (128, 64, 32, 16, 8, 4, 2)


class KfTensor(Structure):
    _fields_ = [("dtype", c_int), ("rank", c_int), ("size", c_int64 * MAX_RANK), ("stride", c_int64 * MAX_RANK),
                ("alignment", c_int32)]


class DeviceDesc(Structure):
    _fields_ = [("backend", c_char_p), ("index", c_int), ("adopt", c_bool), ("native", c_void_p),
                ("native_device", c_void_p), ("read_kernels", c_bool), ("no_cache", c_bool), ("target", c_void_p)]


class QueueDesc(Structure):
    _fields_ = [("adopt", c_bool), ("native", c_void_p)]


class BufferDesc(Structure):
    _fields_ = [("bytes", c_size_t), ("adopt", c_bool), ("native", c_void_p), ("native_offset", c_size_t)]


class PlanDesc(Structure):
    _fields_ = [("variant", c_char_p), ("knobs", c_char_p)]


class Binding(Structure):
    _fields_ = [("buffer", c_void_p), ("offset", c_int64)]


class DeviceInfo(Structure):
    """The head of kf_device_info: only ever read through the library's pointer."""
    _fields_ = [("backend", c_char * 16), ("id", c_char * 24), ("name", c_char * 128), ("platform", c_char * 96),
                ("driver", c_char * 96)]


SIGNATURES = {
    "kf_error": (c_char_p, []), "kf_version": (c_char_p, []),
    "kf_device_open": (c_int, [POINTER(DeviceDesc), POINTER(c_void_p)]), "kf_device_close": (None, [c_void_p]),
    "kf_device_describe": (POINTER(DeviceInfo), [c_void_p]), "kf_device_target": (c_void_p, [c_void_p]),
    "kf_queue_open": (c_int, [c_void_p, POINTER(QueueDesc), POINTER(c_void_p)]), "kf_queue_close": (None, [c_void_p]),
    "kf_queue_finish": (c_int, [c_void_p]),
    "kf_buffer_open": (c_int, [c_void_p, POINTER(BufferDesc), POINTER(c_void_p)]),
    "kf_buffer_close": (None, [c_void_p]),
    "kf_buffer_write": (c_int, [c_void_p, c_void_p, c_size_t, c_void_p, c_size_t]),
    "kf_buffer_read": (c_int, [c_void_p, c_void_p, c_size_t, c_void_p, c_size_t]),
    "kf_problem_open": (c_int, [c_char_p, POINTER(c_void_p)]), "kf_problem_close": (None, [c_void_p]),
    "kf_problem_tensor": (c_int, [c_void_p, c_char_p, POINTER(KfTensor)]),
    "kf_problem_int": (c_int, [c_void_p, c_char_p, c_int64]),
    "kf_problem_float": (c_int, [c_void_p, c_char_p, c_double]),
    "kf_problem_index": (c_int, [c_void_p, c_char_p]),
    "kf_plan_open": (c_int, [c_void_p, POINTER(PlanDesc), c_void_p, POINTER(c_void_p)]),
    "kf_plan_close": (None, [c_void_p]),
    "kf_prepare": (c_int, [c_void_p, c_void_p, POINTER(c_void_p)]), "kf_exec_close": (None, [c_void_p]),
    "kf_run": (c_int, [c_void_p, c_void_p, POINTER(Binding), c_void_p]),
}


class KfuseError(Exception):
    """The library's own sentence."""


def find_library(root):
    """KFUSE_LIBRARY, else the newest build of this tree."""
    return os.environ.get("KFUSE_LIBRARY") or newest_build(root, "libkfuse.so", "lib/libkfuse.so", "bin/libkfuse.so")


def newest_build(root, *names):
    """Of the folders that the presets and the README name; a sanitized library does not load here."""
    built = [os.path.join(root, folder, name) for folder in BUILDS for name in names]
    return max(filter(os.path.isfile, built), key=os.path.getmtime, default="")


class Library:
    """One device and one queue."""

    def __init__(self, path, side):
        if not path:
            raise Missing("no libkfuse.so: build kfuse, or name it in KFUSE_LIBRARY")
        try:
            self.c = ctypes.CDLL(path)
        except OSError as error:
            raise Missing(f"libkfuse does not load: {error}") from error
        for name, (result, arguments) in SIGNATURES.items():
            function = getattr(self.c, name)
            function.restype, function.argtypes = result, arguments
        self.path, self.side, self.device, self.queue = path, side, c_void_p(), c_void_p()
        desc, queue = DeviceDesc(backend=b"opencl"), QueueDesc()
        if side.gpu:
            context = c_void_p()
            ctypes.CDLL("libcuda.so.1").cuCtxGetCurrent(byref(context))
            desc = DeviceDesc(backend=b"cuda", adopt=True, native=context)
            queue = QueueDesc(adopt=True, native=side.stream.cuda_stream)
        try:
            self.call("kf_device_open", byref(desc), byref(self.device))
            self.call("kf_queue_open", self.device, byref(queue), byref(self.queue))
        except KfuseError as error:
            raise Missing(str(error)) from error

    def call(self, name, *arguments):
        status = getattr(self.c, name)(*arguments)
        if status:
            error = KfuseError(self.c.kf_error().decode(errors="replace") or name)
            error.status = status
            raise error

    @property
    def info(self):
        return self.c.kf_device_describe(self.device).contents

    @property
    def version(self):
        return self.c.kf_version().decode()

    @property
    def where(self):
        return f"{self.info.backend.decode()}, {self.info.name.decode(errors='replace')}"


def alignment_of(addresses):
    return next((a for a in ALIGNMENTS if all(address % a == 0 for address in addresses)), 1)


class Ready:
    """A prepared exec of one problem and its bindings for every set."""

    def __init__(self, library, op, tensors, attributes, variant, sets):
        """tensors: {name: (dtype, shape)}; sets: [{name: tensor}]"""
        self.kf, self.side, self.sets = library, library.side, sets
        self.exec, self.buffers, self.bindings = c_void_p(), [], {}
        problem, plan = c_void_p(), c_void_p()
        try:
            library.call("kf_problem_open", op.encode(), byref(problem))
            for name, (dtype, shape) in tensors.items():
                self.describe(problem, name, dtype, shape)
            for name, value in attributes.items():
                kind = "kf_problem_float" if isinstance(value, float) else "kf_problem_int"
                library.call(kind, problem, name.encode(), value)
            desc = PlanDesc(variant=variant.encode() if variant else None)
            library.call("kf_plan_open", problem, byref(desc), library.c.kf_device_target(library.device), byref(plan))
            library.call("kf_prepare", plan, library.device, byref(self.exec))
            places = {name: library.c.kf_problem_index(problem, name.encode()) for name in tensors}
            for data in sets:
                self.bindings[id(data)] = self.bind(places, tensors, data)
        except Exception:
            self.close()
            raise
        finally:
            library.c.kf_plan_close(plan)
            library.c.kf_problem_close(problem)

    def describe(self, problem, name, dtype, shape):
        tensor, step = KfTensor(dtype=DTYPES[dtype], rank=len(shape)), 1
        for axis in reversed(range(len(shape))):
            tensor.size[axis], tensor.stride[axis] = shape[axis], step
            step *= shape[axis]
        if self.side.gpu:
            tensor.alignment = alignment_of([self.side.pointer(data[name]) for data in self.sets])
        else:
            tensor.alignment = 128  # buffers of the device's own
        self.kf.call("kf_problem_tensor", problem, name.encode(), byref(tensor))

    def bind(self, places, tensors, data):
        bindings = (Binding * 16)()
        for name in tensors:
            buffer = c_void_p()
            bytes_ = data[name].nbytes
            desc = BufferDesc(bytes=bytes_)
            if self.side.gpu:
                desc = BufferDesc(bytes=bytes_, adopt=True, native=self.side.pointer(data[name]))
            self.kf.call("kf_buffer_open", self.kf.device, byref(desc), byref(buffer))
            self.buffers.append(buffer)
            bindings[places[name]].buffer = buffer
            if not self.side.gpu:
                self.kf.call("kf_buffer_write", self.kf.queue, buffer, 0, self.side.pointer(data[name]),
                                  bytes_)
        return bindings

    def run(self, data):
        self.kf.call("kf_run", self.exec, self.kf.queue, self.bindings[id(data)], None)

    def run_and_wait(self, data):
        self.run(data)
        self.kf.call("kf_queue_finish", self.kf.queue)

    def fetch(self, data, names, places):
        """Results of an OpenCL device into the host's tensors."""
        for name in names:
            buffer = self.bindings[id(data)][places[name]].buffer
            self.kf.call("kf_buffer_read", self.kf.queue, buffer, 0, self.side.pointer(data[name]),
                              data[name].nbytes)

    def close(self):
        for buffer in self.buffers:
            self.kf.c.kf_buffer_close(buffer)
        self.kf.c.kf_exec_close(self.exec)
        self.buffers, self.exec = [], c_void_p()

    def __del__(self):
        self.close()


# ---- providers ----------------------------------------------------------------------------------------------

def build(variant):
    def made(world, case, sets):
        library = world.kfuse
        tensors = {tensor.name: (case.dtype_of(tensor), case.shape_of(tensor)) for tensor in case.op.tensors}
        try:
            ready = Ready(library, case.op.kfuse_name, tensors, case.op.attributes, variant, sets)
        except KfuseError as error:
            if error.status == UNSUPPORTED:
                raise Refused(str(error)) from error
            raise
        stored = variant == "unfused"
        if world.side.gpu:
            return Call(ready.run, stored=stored, variant=variant or "default", keep=ready)
        names = [tensor.name for tensor in case.op.outputs]
        places = {}
        problem = c_void_p()
        library.call("kf_problem_open", case.op.kfuse_name.encode(), byref(problem))
        for name in names:
            places[name] = library.c.kf_problem_index(problem, name.encode())
        library.c.kf_problem_close(problem)

        def left():
            ready.fetch(sets[0], names, places)
        return Call(ready.run_and_wait, how="on the OpenCL device", stored=stored, variant=variant or "default",
                    left=left, keep=ready)
    return made


def probe(world):
    if isinstance(world.kfuse, Missing):
        raise world.kfuse
    return f"{world.kfuse.version} ({world.kfuse.where})"


PEERS = [
    Peer("kfuse_unfused", "kfuse, one kernel per line of the formula", probe, build("unfused"), rival=False),
    Peer("kfuse_fused", "kfuse, the variant that it chooses itself", probe, build(None), rival=False),
]
