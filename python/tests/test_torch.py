"""torch: its tensors in host memory (through OpenCL), the short way on the null backend, custom ops and torch.compile.
SPDX-License-Identifier: Apache-2.0"""

import os
import subprocess
import sys
import unittest
import warnings

import torch
import torch.utils.flop_counter

import kfuse
from kfuse import _devices
from kfuse._library import library

torch.manual_seed(5)


def near(got, wanted, factor=16):
    unit = torch.finfo(got.dtype).eps
    bound = factor * unit * (1 + wanted.double().abs())
    assert got.shape == wanted.shape
    assert bool(((got.double() - wanted.double()).abs() <= bound).all())


class HostTensors(unittest.TestCase):
    """Mistakes: torch's strides counted in bytes; bfloat16 taken for float16; a result that is no tensor."""

    def test_dtypes(self):
        for dtype in (torch.float32, torch.float16, torch.bfloat16):
            x = torch.randn(4, 6, 50).to(dtype)
            y = kfuse.softmax(x)
            self.assertEqual((type(y), y.dtype), (torch.Tensor, dtype))
            near(y, torch.softmax(x.double(), -1), 4)

    def test_views_and_places(self):
        x = torch.randn(6, 80)[::2, 10:50]
        board = torch.full((3, 60), 9.0)
        self.assertEqual(kfuse.softmax(x, out=board[:, 5:45]).data_ptr(), board[:, 5:45].data_ptr())
        near(board[:, 5:45], torch.softmax(x.double(), -1))
        self.assertTrue(bool((board[:, :5] == 9).all()) and bool((board[:, 45:] == 9).all()))

    def test_parameters_and_several_results(self):
        layer = torch.nn.LayerNorm(50).requires_grad_(False)
        x = torch.randn(4, 50)
        got = kfuse.layer_norm(x, layer.weight, layer.bias, mean=True)
        near(got.y, torch.nn.functional.layer_norm(x.double(), (50,)))
        near(got.mean, x.double().mean(-1))

    def test_cross_entropy(self):
        logits, target = torch.randn(9, 70), torch.randint(0, 70, (9,))
        loss = kfuse.cross_entropy(logits, target, reduction="mean")
        near(loss, torch.nn.functional.cross_entropy(logits.double(), target))

    def test_refusals(self):
        x = torch.randn(4, 50)
        with self.assertRaisesRegex(kfuse.InvalidError, "float64"):
            kfuse.softmax(x.double())
        with self.assertRaisesRegex(kfuse.InvalidError, "weight"):
            kfuse.layer_norm(x, torch.ones(49))
        with self.assertRaisesRegex(TypeError, "list"):
            kfuse.layer_norm(x, [1.0])

    def test_an_attribute_may_be_a_tensor(self):
        """Mistake: its number of another time."""
        x, eps = torch.randn(4, 50), torch.tensor(1e-5)
        for value in (1e-5, 10.0):
            eps.fill_(value)
            near(kfuse.layer_norm(x, eps=eps), torch.nn.functional.layer_norm(x.double(), (50,), eps=value))
        with self.assertRaisesRegex(TypeError, "takes a number"):
            kfuse.layer_norm(x, eps=torch.ones(2))

    def test_lazily_negated_tensors_are_refused(self):
        x = torch.randn(4, 50)
        near(kfuse.softmax(x, out=torch.empty(4, 50)), torch.softmax(x.double(), -1))  # a record for what looks alike
        negated = torch._neg_view(x)
        with self.assertRaisesRegex(kfuse.InvalidError, "'x'.*resolve_neg"):
            kfuse.softmax(negated)
        with self.assertRaisesRegex(kfuse.InvalidError, "'y'.*resolve_neg"):
            kfuse.softmax(x, out=negated)
        near(kfuse.softmax(negated.resolve_neg()), torch.softmax(-x.double(), -1))

    def test_what_was_written_to_is_known_to_autograd(self):
        x = torch.randn(4, 50)
        w = torch.randn(4, 50, requires_grad=True)
        product = (w * x).sum()
        kfuse.softmax(x, out=x)
        with self.assertRaisesRegex(RuntimeError, "modified by an inplace"):
            product.backward()


class CustomOps(unittest.TestCase):
    """Mistakes: an op that torch.compile does not see as one; a fake result of another shape, dtype or layout; a
    gradient that is silently lost."""

    def test_compiled_in_one_graph(self):
        def f(x, weight):
            y, rstd = kfuse.rms_norm(x * 2, weight, eps=1e-6, rstd=True)
            return kfuse.softmax(y) + rstd[:, None], kfuse.bias_gelu(y, weight, approximate="tanh")

        x, weight = torch.randn(4, 50), torch.randn(50)
        wanted = f(x, weight)
        for got, value in zip(torch.compile(f, backend="aot_eager", fullgraph=True)(x, weight), wanted):
            near(got, value, 2)

    def test_several_results_by_name(self):
        def f(x):
            got = kfuse.layer_norm(x, mean=True)
            return got.y + got.mean[..., None], kfuse.add_rms_norm(x, x).residual_out

        for dynamic in (False, True):
            compiled = torch.compile(f, backend="aot_eager", fullgraph=True, dynamic=dynamic)
            for rows in (3, 5, 7):
                x = torch.randn(rows, 2, 50)
                for got, wanted in zip(compiled(x), f(x)):
                    near(got, wanted, 2)

    def test_seeds_are_compiled_once(self):
        """Mistake: an attribute of each run that is baked into the compiled function."""
        graphs = []

        def keep(module, inputs):
            graphs.append(module)
            return module

        x = torch.randn(4, 50)
        compiled = torch.compile(lambda seed: kfuse.dropout_add(x, x, seed=seed), backend=keep, fullgraph=True)
        for seed in (3, 4, 5, 6, 1 << 40, -1):
            self.assertTrue(torch.equal(compiled(seed), kfuse.dropout_add(x, x, seed=seed)))
        self.assertLessEqual(len(graphs), 2)  # the first one takes the seed for a constant

    def test_exported(self):
        class Model(torch.nn.Module):
            def forward(self, x):
                return kfuse.softmax(x, axis=1)

        x = torch.randn(3, 4, 8)
        near(torch.export.export(Model(), (x,)).module()(x), torch.softmax(x.double(), 1))

    def test_seen_as_ops(self):
        seen = []

        def look(module, inputs):
            seen.extend(str(node.target) for node in module.graph.nodes if node.op == "call_function")
            return module

        torch.compile(lambda x: kfuse.softmax(x) + 1, backend=look, fullgraph=True)(torch.randn(3, 8))
        self.assertTrue(any("kfuse" in target and "softmax" in target for target in seen), seen)

    def test_every_op_is_a_proper_custom_op(self):
        tests = ("test_schema", "test_faketensor")
        for op in _ops():
            size = {"half": 4}
            inputs = []
            for row in (op.tensors[i] for i in op.inputs):
                shape = [size.get(dim, 8) for dim in row.dims]
                dtype = {1: torch.float32, 5: torch.int64, 4: torch.int32}.get(row.dtype, torch.bfloat16)
                inputs.append(torch.zeros(shape, dtype=dtype) if row.below else torch.rand(shape).to(dtype))
            asked = {op.tensors[i].name: True for i in op.outputs if op.tensors[i].optional}
            with self.subTest(op=op.name):
                torch.library.opcheck(getattr(torch.ops.kfuse, op.name), inputs, asked, test_utils=tests)

    def test_gradients_are_refused_not_lost(self):
        x = torch.randn(4, 50, requires_grad=True)
        y = kfuse.softmax(x)
        self.assertTrue(y.requires_grad)
        with self.assertRaisesRegex(RuntimeError, "autograd"):
            y.sum().backward()
        with torch.no_grad():
            self.assertFalse(kfuse.softmax(x).requires_grad)
        with self.assertRaisesRegex(kfuse.InvalidError, "cannot be given a place"):
            kfuse.softmax(x, out=torch.empty(4, 50))

    def test_who_looks_on_sees_the_op(self):
        """Mistake: a graph or a transform that the op is missing from, so that it is right for the first input only."""
        from torch.fx.experimental.proxy_tensor import make_fx

        x, other = torch.randn(4, 50), torch.randn(4, 50)
        wanted = torch.softmax(other.double(), -1)
        near(make_fx(lambda t: kfuse.softmax(t) * 1)(x)(other), wanted)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            near(torch.vmap(kfuse.softmax)(other[:, None])[:, 0], wanted)
            near(torch.jit.trace(lambda t: kfuse.softmax(t) * 1, x)(other), wanted)
        seen = torch.utils.flop_counter.FlopCounterMode(display=False)
        with seen, self.assertRaisesRegex(kfuse.InvalidError, "cannot be given a place"):
            kfuse.softmax(x, out=x)

    def test_transforms_lose_no_gradient(self):
        """Mistake: zeros, or nothing, where a derivative should have been."""
        x = torch.randn(4, 50)
        for function in (kfuse.softmax, torch.ops.kfuse.softmax):
            with self.assertRaises(RuntimeError):  # torch's own
                torch.func.grad(lambda t, function=function: (function(t) ** 2).sum())(x)
            with torch.autograd.forward_ad.dual_level():
                with self.assertRaisesRegex(kfuse.UnsupportedError, "tangent"):
                    function(torch.autograd.forward_ad.make_dual(x, x))
                near(function(x), torch.softmax(x.double(), -1))
        for transform in (torch.func.jacfwd, lambda f: lambda t: torch.func.jvp(f, (t,), (t,))):
            with self.assertRaisesRegex(kfuse.UnsupportedError, "tangent"):
                transform(lambda t: kfuse.softmax(t))(x)

    def test_fake_tensors(self):
        from torch._subclasses import FakeTensorMode

        with FakeTensorMode():
            got = kfuse.layer_norm(torch.empty(3, 4, 8), mean=True)
            self.assertEqual((got.y.shape, got.mean.shape), ((3, 4, 8), (3, 4)))

    def test_torch_is_imported_by_its_user_alone(self):
        code = "import kfuse, sys; assert 'torch' not in sys.modules and 'numpy' not in sys.modules"
        subprocess.run([sys.executable, "-c", code], check=True)
        code = (
            "import kfuse, torch; x = torch.randn(3, 4); y = kfuse.softmax(x); "
            "assert (y - torch.softmax(x, -1)).abs().max() < 1e-6; assert hasattr(torch.ops.kfuse, 'softmax')"
        )
        subprocess.run([sys.executable, "-c", code], check=True)

    def test_an_older_torch(self):
        code = (
            "import torch; del torch.library.custom_op; import kfuse; x = torch.randn(3, 4); "
            "assert (kfuse.softmax(x) - torch.softmax(x, -1)).abs().max() < 1e-6\n"
            "try: kfuse.softmax(x.requires_grad_())\n"
            "except kfuse.UnsupportedError: pass\n"
            "else: raise SystemExit('a gradient was lost')"
        )
        subprocess.run([sys.executable, "-c", code], check=True)


class TheShortWay(unittest.TestCase):
    """As on a CUDA device, with the null backend in its place. Mistakes: a record that outlives a change of shape,
    stride or attribute; an address of the call before."""

    def setUp(self):
        from kfuse import torch as own

        self.own, self.stream, self.backend = own, own.current_stream, _devices.direct_backend
        own.current_stream = lambda index: 4096
        _devices.direct_backend, _devices.pretend = b"null", True

    def tearDown(self):
        self.own.current_stream = self.stream
        _devices.direct_backend, _devices.pretend = self.backend, False
        for op in _ops():
            op.forget()

    def test_records(self):
        op = next(op for op in _ops() if op.name == "rms_norm")
        op.forget()
        weight = torch.ones(50)
        for x in (torch.randn(4, 50), torch.randn(4, 50), torch.randn(5, 50), torch.randn(4, 100)[:, :50]):
            out = torch.empty(x.shape)
            for _ in range(2):
                kfuse.rms_norm(x, weight, out=out)
                record = list(op.records.values())[-1] if x.shape[0] != 4 else None
            if record:
                at = [_devices.BASE + operand.offset * size for operand, size in record.places]
                self.assertEqual(at, [x.data_ptr(), weight.data_ptr(), out.data_ptr()])
        self.assertEqual(len(op.records), 3)
        before = out._version
        kfuse.rms_norm(x, weight, out=out)
        self.assertGreater(out._version, before)
        kfuse.rms_norm(torch.randn(4, 50), weight, eps=1e-6)
        kfuse.rms_norm(torch.randn(4, 50), weight, eps=1e-6, rstd=True)
        self.assertEqual(len(op.records), 5)

    def test_nothing_is_prepared_in_a_capture(self):
        """Mistakes: kernels compiled while a stream is captured; a call refused that is ready there."""
        at = [4096]
        self.own.current_stream = lambda index: at[0]
        device, x, capturing = _devices.direct_device(0), torch.randn(4, 50), _devices.capturing
        room = torch.empty(300)
        places = [room[i : i + 200].view(4, 50) for i in range(0, 96, 32)]
        kfuse.softmax(x, out=places[0])
        try:
            _devices.capturing = lambda index: True
            kfuse.softmax(x, out=places[0])
            kfuse.softmax(x, out=places[1])  # as well aligned
            at[0] = 8192
            with self.assertRaisesRegex(kfuse.InvalidError, r"softmax: .*torch.cuda.graph\(g, stream=s\)"):
                kfuse.softmax(x, out=places[0])
            self.assertNotIn(8192, device.streams)
            _devices.capturing = capturing
            kfuse.softmax(x, out=places[0])
            _devices.capturing = lambda index: True
            kfuse.softmax(x, out=places[0])
            with self.assertRaisesRegex(kfuse.InvalidError, "not prepared"):  # another alignment, another exec
                kfuse.softmax(x, out=room[1:201].view(4, 50))
            self.assertEqual(_ready(device, 8192), 1)
        finally:
            _devices.capturing = capturing

    def test_what_ran_is_ready(self):
        """Mistake: a call taken for prepared whose exec has made room for others."""
        stream = _devices.Stream(_devices.direct_device(0).handle, True, 1 << 30, 2)
        for what in "aabca":
            if what in stream.ran:
                stream.ran.move_to_end(what)
            else:
                stream.note(what)
        self.assertEqual(list(stream.ran), ["c", "a"])
        stream.close()

    def test_execs_are_as_many_as_asked_for(self):
        code = "import kfuse._devices as d; print(d.EXECS)"
        for text, wanted in (("", "1024"), ("7", "7"), ("x", "KFUSE_EXECS=x"), ("0", "KFUSE_EXECS=0")):
            said = subprocess.run(
                [sys.executable, "-c", code], env={**os.environ, "KFUSE_EXECS": text}, capture_output=True, text=True
            )
            self.assertIn(wanted, said.stdout + said.stderr)

    def test_lazily_negated_tensors_are_refused(self):
        x = torch.randn(4, 50)
        kfuse.softmax(x)
        with self.assertRaisesRegex(kfuse.InvalidError, "'x'.*resolve_neg"):
            kfuse.softmax(torch._neg_view(x))

    def test_nothing_to_do(self):
        self.assertEqual(kfuse.softmax(torch.empty(0, 8)).shape, (0, 8))


def _ready(device, native):
    return library.kf_calls_ready(device.stream(native).calls)


def _ops():
    from kfuse._table import OPS

    return OPS


if __name__ == "__main__":
    unittest.main()
