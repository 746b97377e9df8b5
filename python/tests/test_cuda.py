"""torch's tensors on a CUDA device: results, its streams and graphs, arrays of others.
SPDX-License-Identifier: Apache-2.0"""

import unittest

import numpy as np
import torch
from test_every_op import array

import kfuse
from kfuse._table import OPS

torch.manual_seed(5)
HERE = torch.cuda.is_available()


def near(got, wanted, factor=16):
    unit = torch.finfo(got.dtype).eps
    assert got.shape == wanted.shape and got.is_cuda
    off = (got.double() - wanted.double()).abs() / (1 + wanted.double().abs())
    assert float(off.max()) <= factor * unit, f"off by {float(off.max()) / unit:.1f} units"


class Foreign:
    """Device memory of a library that torch is not: through `__cuda_array_interface__`, or DLPack."""

    def __init__(self, tensor, way):
        self._tensor, self._way = tensor, way

    def __getattr__(self, name):
        if name in ("__cuda_array_interface__", "__dlpack__", "__dlpack_device__"):
            if (name == "__cuda_array_interface__") != (self._way == "cuda"):
                raise AttributeError(name)
            return getattr(self._tensor, name)
        raise AttributeError(name)


@unittest.skipUnless(HERE, "torch has no CUDA device here")
class Results(unittest.TestCase):
    """Mistakes: another dtype than the tensor's; strides or offsets lost; a result on another device."""

    def test_functions_of_torch(self):
        functional = torch.nn.functional
        for dtype in (torch.float32, torch.float16, torch.bfloat16):
            x, r = torch.randn(2, 37, 1000, device="cuda").to(dtype).unbind()
            w, b = torch.randn(2, 1000, device="cuda").to(dtype).unbind()
            target = torch.randint(0, 1000, (37,), device="cuda")
            with self.subTest(dtype=dtype):
                near(kfuse.softmax(x), torch.softmax(x.double(), -1))
                near(kfuse.softmax(x, axis=0), torch.softmax(x.double(), 0))
                wanted = functional.layer_norm(x.double(), (1000,), w.double(), b.double())
                near(kfuse.layer_norm(x, w, b), wanted)
                got = kfuse.add_rms_norm(x, r, w)
                near(got.residual_out, x.double() + r.double(), 1)
                near(got.y, functional.rms_norm(got.residual_out.double(), (1000,), w.double(), 1e-5), 64)
                near(kfuse.cross_entropy(x, target), functional.cross_entropy(x.double(), target, reduction="none"))
                near(kfuse.swiglu(x, r), functional.silu(x.double()) * r.double())

    def test_views_and_places(self):
        x = torch.randn(6, 80, device="cuda")[::2, 11:51]
        board = torch.full((3, 60), 9.0, device="cuda")
        place = board[:, 5:45]
        self.assertEqual(kfuse.softmax(x, out=place).data_ptr(), place.data_ptr())
        near(place, torch.softmax(x.double(), -1))
        self.assertTrue(bool((board[:, :5] == 9).all()) and bool((board[:, 45:] == 9).all()))

    def test_one_device(self):
        """Mistake: a tensor elsewhere taken for one of the call before."""
        x, w = torch.randn(4, 1000, device="cuda"), torch.randn(1000, device="cuda")
        kfuse.rms_norm(x, w)
        for one, other in ((x, w.cpu()), (x.cpu(), w)):
            with self.assertRaisesRegex(kfuse.InvalidError, "one device"):
                kfuse.rms_norm(one, other)
        for index in range(torch.cuda.device_count()):
            there = x.to(f"cuda:{index}")
            for _ in range(2):
                self.assertEqual(kfuse.softmax(there).device, there.device)

    def test_every_op_as_on_the_opencl_device(self):
        """Every function on both backends, from the same numbers."""
        try:
            kfuse.softmax(np.ones((2, 2), "float32"))
        except kfuse.UnavailableError:
            self.skipTest("no OpenCL device beside the GPU")
        for op in OPS:
            with self.subTest(op=op.name):
                random = np.random.default_rng(3)
                inputs = [array(op.tensors[i], "float32", random) for i in op.inputs]
                asked = {op.tensors[i].name: True for i in op.outputs if op.tensors[i].optional}
                function = getattr(kfuse, op.name)
                wanted = function(*inputs, **asked)
                got = function(*(torch.from_numpy(value).cuda() for value in inputs), **asked)
                for one, other in zip(_all(got), _all(wanted)):
                    np.testing.assert_allclose(one.cpu().numpy(), other, rtol=2e-5, atol=2e-5)


@unittest.skipUnless(HERE, "torch has no CUDA device here")
class Order(unittest.TestCase):
    """Mistakes: a launch on another stream than torch's current one; a wait where none is due; an exec compiled inside
    a capture; a graph that works on what the first call worked on."""

    def late(self, x):
        """Ones in x, after some milliseconds of the current stream."""
        torch.cuda._sleep(20_000_000)
        x.fill_(1)

    def test_current_stream(self):
        side = torch.cuda.Stream()
        x, weight = torch.zeros(64, 128, device="cuda"), torch.ones(128, device="cuda")
        kfuse.rms_norm(x, weight)
        torch.cuda.synchronize()
        with torch.cuda.stream(side):
            kfuse.rms_norm(x, weight)
            self.late(x)
            y = kfuse.rms_norm(x, weight)
            self.assertFalse(side.query(), "the call waited for its stream")
            z = y + 1
        side.synchronize()
        near(z, torch.full((64, 128), 2.0, device="cuda"))

    def test_graph(self):
        stream = torch.cuda.Stream()
        x, weight = torch.randn(64, 128, device="cuda"), torch.ones(128, device="cuda")

        def step(x):
            return kfuse.softmax(kfuse.rms_norm(x, weight))

        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            step(x)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, stream=stream):
            y = step(x)
        x.copy_(torch.randn(64, 128))
        graph.replay()
        normal = torch.nn.functional.rms_norm(x.double(), (128,), None, 1e-5)
        near(y, torch.softmax(normal, -1))

    def test_not_prepared_in_a_capture(self):
        stream = torch.cuda.Stream()
        x = torch.randn(64, 131, device="cuda")
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, stream=stream):
            z = x + 1
            with self.assertRaisesRegex(kfuse.InvalidError, r"torch.cuda.graph\(g, stream=s\)"):
                kfuse.softmax(x)
        graph.replay()
        near(z, x + 1, 1)
        with torch.cuda.stream(stream):
            near(kfuse.softmax(x), torch.softmax(x.double(), -1))

    def test_split_rows_in_a_graph(self):
        """Rows whose groups meet through counters: replays leave them right."""
        stream = torch.cuda.Stream()
        x = torch.randn(3, 200_000, device="cuda")
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            kfuse.softmax(x)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, stream=stream):
            y = kfuse.softmax(x)
            again = kfuse.softmax(y)
        for _ in range(5):
            x.normal_()
            graph.replay()
            near(y, torch.softmax(x.double(), -1))
            near(again, torch.softmax(y.double(), -1))

    def test_compiled(self):
        weight = torch.randn(1000, device="cuda")
        function = torch.compile(lambda x: kfuse.softmax(kfuse.rms_norm(x * 2, weight)) + 1, fullgraph=True)
        x = torch.randn(64, 1000, device="cuda")
        normal = torch.nn.functional.rms_norm(2 * x.double(), (1000,), weight.double(), 1e-5)
        near(function(x), torch.softmax(normal, -1) + 1)


@unittest.skipUnless(HERE, "torch has no CUDA device here")
class Others(unittest.TestCase):
    """Mistakes: device memory copied through the host; results of the wrong library."""

    def test_foreign_arrays(self):
        x = torch.randn(4, 1000, device="cuda")
        for way in ("cuda", "dlpack"):
            with self.subTest(way=way):
                y = torch.zeros_like(x)
                torch.cuda.synchronize()
                kfuse.softmax(Foreign(x, way), out=Foreign(y, way))
                torch.cuda.synchronize()
                near(y, torch.softmax(x.double(), -1))

    def test_cupy(self):
        try:
            import cupy
        except ImportError:
            self.skipTest("no cupy")
        x = cupy.random.standard_normal((4, 1000), dtype="float32")
        y = kfuse.softmax(x)
        self.assertIsInstance(y, cupy.ndarray)
        cupy.cuda.Device().synchronize()
        near(torch.as_tensor(y, device="cuda"), torch.softmax(torch.as_tensor(x, device="cuda").double(), -1))


def _all(results):
    return results if isinstance(results, tuple) else (results,)


if __name__ == "__main__":
    unittest.main()
