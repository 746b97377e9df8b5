"""Where tensors live: torch on a GPU or the CPU, or NumPy where there is no torch. Each side also has the few
functions that truth.py is written in. SPDX-License-Identifier: Apache-2.0"""

import math
import zlib

from provider import Missing

LEAST_BYTES = 512 << 20   # of all sets together on a GPU, as in harness/sets.c
CACHES = 3
LEAST_SETS = 3
MOST_SETS = 2000
MEMORY_SHARE = 0.25       # of the device's memory: outputs that peers allocate themselves come on top
SLICE = 1 << 24           # elements that the truth looks at in one go


class NumpySide:
    """NumPy arrays."""
    name, gpu = "numpy", False

    def __init__(self):
        import numpy
        self.module = numpy
        self.types = {"f32": numpy.float32, "f16": numpy.float16, "i64": numpy.int64}
        self.version = numpy.__version__

    def __getattr__(self, name):
        return getattr(self.module, name)

    def erf(self, x):
        return self.module.vectorize(math.erf, otypes=[float])(x) if x.size else x

    def taken(self, x, index):
        return self.module.take_along_axis(x, index[:, None], 1)

    def whole(self, count):
        return self.module.arange(count)

    def normal(self, shape, dtype, seed):
        return self.module.random.default_rng(seed).standard_normal(shape).astype(self.types[dtype])

    def below(self, shape, limit, seed):
        return self.module.random.default_rng(seed).integers(0, max(limit, 1), shape)

    def empty(self, shape, dtype):
        return self.module.empty(shape, self.types[dtype])

    def poison(self, x):
        x[...] = self.module.nan

    def wide(self, x):
        return x.astype(self.module.float64) if x.dtype.kind == "f" else x

    def narrow(self, x, dtype):
        return x.astype(self.types[dtype])

    def dtype_of(self, x):
        return next((name for name, kind in self.types.items() if x.dtype == kind), str(x.dtype))

    def pointer(self, x):
        return x.ctypes.data

    def fingerprint(self, x):
        return zlib.crc32(x.tobytes())

    def wait(self):
        pass

    def release(self):
        pass

    def set_count(self, _bytes):
        return 1


class TorchSide:
    """torch tensors on "cuda" or "cpu"; on cuda everything happens on one stream of our own."""

    def __init__(self, device):
        import torch
        self.module = torch
        self.gpu = device == "cuda"
        self.name = f"torch {device}"
        self.device = torch.device(device)
        self.types = {"f32": torch.float32, "f16": torch.float16, "bf16": torch.bfloat16, "i64": torch.int64}
        self.version = torch.__version__
        self.stream = None
        if self.gpu:
            torch.zeros(1, device=self.device)  # makes the primary context current
            self.stream = torch.cuda.Stream()
            torch.cuda.set_stream(self.stream)
        else:
            torch.manual_seed(0)

    def __getattr__(self, name):
        return getattr(self.module, name)

    def taken(self, x, index):
        return self.module.gather(x, 1, index[:, None])

    def whole(self, count):
        return self.module.arange(count, device=self.device)

    def generator(self, seed):
        return self.module.Generator(device=self.device).manual_seed(seed)

    def normal(self, shape, dtype, seed):
        return self.module.randn(shape, device=self.device, generator=self.generator(seed), dtype=self.types[dtype])

    def below(self, shape, limit, seed):
        return self.module.randint(0, max(limit, 1), shape, device=self.device, generator=self.generator(seed))

    def empty(self, shape, dtype):
        return self.module.empty(shape, device=self.device, dtype=self.types[dtype])

    def poison(self, x):
        x.fill_(float("nan"))

    def wide(self, x):
        return x.detach().double() if x.is_floating_point() else x

    def narrow(self, x, dtype):
        return x.to(self.types[dtype])

    def dtype_of(self, x):
        return next((name for name, kind in self.types.items() if x.dtype == kind), str(x.dtype))

    def pointer(self, x):
        return x.data_ptr()

    def fingerprint(self, x):
        whole = {1: self.module.int8, 2: self.module.int16, 4: self.module.int32, 8: self.module.int64}
        return int(x.reshape(-1).view(whole[x.element_size()]).sum(dtype=self.module.int64))

    def wait(self):
        if self.gpu:
            self.module.cuda.synchronize()

    def release(self):
        if self.gpu:
            self.module.cuda.synchronize()
            self.module.cuda.empty_cache()

    def set_count(self, set_bytes):
        """Sets that a batch must walk so that it never finds its data in the cache."""
        if not self.gpu:
            return 1
        properties = self.module.cuda.get_device_properties(self.device)
        wanted = max(LEAST_BYTES, CACHES * getattr(properties, "L2_cache_size", 0))
        count = max(LEAST_SETS, -(-wanted // max(set_bytes, 1)))
        return max(1, min(count, MOST_SETS, int(MEMORY_SHARE * properties.total_memory) // max(set_bytes, 1)))


def open_side(device):
    """The side of "numpy", "cpu" or "cuda"; Missing where its library is."""
    name, package = ("NumPy", "numpy") if device == "numpy" else ("torch", "torch")
    try:
        return NumpySide() if device == "numpy" else TorchSide(device)
    except ImportError as error:
        words = (str(error).splitlines() or [repr(error)])[0]
        said = "is not installed" if getattr(error, "name", None) == package else f"does not import: {words}"
        raise Missing(f"{name} {said}") from error


def fill(side, case, tensor, seed):
    """One fresh input; those that follow from others come later."""
    shape, dtype = case.shape_of(tensor), case.dtype_of(tensor)
    if tensor.fill.startswith("index:"):
        return side.below(shape, case.sizes[tensor.fill[6:]], seed)
    if tensor.fill == "derived":
        return side.empty(shape, dtype)
    values = side.normal(shape, dtype, seed)
    if tensor.fill == "scale":
        return side.narrow(1 + side.wide(values) / 8, dtype)
    if tensor.fill == "angle":
        return side.narrow(side.cos(side.wide(values) * 3 + (0 if tensor.name == "cos" else math.pi / 2)), dtype)
    return values


def slices(case):
    """Ranges of the leading dim, each of about SLICE elements."""
    sizes = [size for size in case.shape_of(case.op.inputs[0])]
    row = 1
    for size in sizes[1:]:
        row *= size
    step = max(1, SLICE // max(row, 1))
    return [(first, min(first + step, sizes[0])) for first in range(0, sizes[0], step)]


def part_of(case, tensor, values, first, last):
    """The rows of a tensor that belong to rows first..last of the case: all of it where it has no rows."""
    leading = case.op.dims.split()[0]
    return values[first:last] if tensor.dims.split()[0] == leading else values


def wide_part(side, case, data, first, last):
    """Inputs of some rows in double precision, and how the case's dtype rounds."""
    t = {tensor.name: side.wide(part_of(case, tensor, data[tensor.name], first, last)) for tensor in case.op.inputs}
    t["rounded"] = lambda x: side.wide(side.narrow(x, case.dtype))
    return t


def fresh_inputs(side, case, index, seed=42):
    """{name: tensor} of set `index`: the same whenever it is made."""
    data = {tensor.name: fill(side, case, tensor, seed + 101 * index + place)
            for place, tensor in enumerate(case.op.inputs)}
    if case.op.derive:
        derive_inputs(side, case, data)
    return data


def make_sets(side, case):
    """Rotating sets {name: tensor} of inputs and outputs."""
    sets = []
    for index in range(side.set_count(case.bytes_of(case.op.tensors))):
        data = fresh_inputs(side, case, index)
        for tensor in case.op.outputs:
            data[tensor.name] = side.empty(case.shape_of(tensor), case.dtype_of(tensor))
            side.poison(data[tensor.name])
        sets.append(data)
    return sets


def fingerprints(side, case, data):
    return {tensor.name: side.fingerprint(data[tensor.name]) for tensor in case.op.inputs}


def refill(side, case, sets):
    """Writes the inputs anew where they lie: graphs know their addresses."""
    for index, data in enumerate(sets):
        for name, values in fresh_inputs(side, case, index).items():
            data[name][...] = values


def derive_inputs(side, case, data):
    for first, last in slices(case):
        t = {tensor.name: side.wide(part_of(case, tensor, data[tensor.name], first, last))
             for tensor in case.op.inputs if tensor.fill != "derived"}
        for name, values in case.op.derive(side, t).items():
            tensor = next(i for i in case.op.inputs if i.name == name)
            data[name][first:last] = side.narrow(values, case.dtype_of(tensor))
