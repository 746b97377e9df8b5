"""torch: what the text of each op takes by itself (_short.py), on the null backend in a CUDA device's place. Every call
is made once before, so that it would be taken for the one before it. SPDX-License-Identifier: Apache-2.0"""

import ctypes
import threading
import time
import unittest

import torch
from torch.utils._python_dispatch import TorchDispatchMode

import kfuse
from kfuse import _devices, _functions
from kfuse import torch as own
from kfuse._table import OPS

own.current_stream = lambda index: 4096
_devices.direct_backend, _devices.pretend = b"null", True
space = _functions.space


def op_named(name):
    return next(op for op in OPS if op.name == name)


class Watched(unittest.TestCase):
    """Sees what the short way hands to the library."""

    def setUp(self):
        self.real, self.calls, self.queues = space["_kf_call"], [], []
        space["_kf_call"] = self.look
        for op in OPS:
            op.forget()

    def tearDown(self):
        space["_kf_call"] = self.real

    def look(self, calls, symbol, pointers, numbers):
        op, found = op_named(symbol.decode()), {}
        for row, place in zip(op.tensors, pointers._obj):
            if place:
                tensor, size = place.contents.tensor, {1: 4, 2: 2, 3: 2, 4: 4, 5: 8}[place.contents.tensor.dtype]
                shape, stride = tuple(tensor.size[: tensor.rank]), tuple(tensor.stride[: tensor.rank])
                found[row.name] = _devices.BASE + place.contents.offset * size, shape, stride
        values = [] if numbers is None else [n.f if row.real else n.i for n, row in zip(numbers._obj, op.attributes)]
        self.calls.append((op.name, found, values))
        self.queues.append(ctypes.addressof(calls._obj))
        return self.real(calls, symbol, pointers, numbers)

    def ran(self, function, count=1):
        """What the short way hands over when it makes this call, or that it does not. Results in host memory are
        aligned to this or that: another alignment is not ready the first time."""
        before = len(self.calls)
        for _ in range(8):
            function()
            if len(self.calls) > before:
                break
        self.assertEqual(len(self.calls), before + count)
        return self.calls[-1][1:] if count else None

    def at(self, tensor):
        stride = torch.empty(tensor.shape).stride() if tensor.is_contiguous() else tensor.stride()
        return tensor.data_ptr(), tuple(tensor.shape), stride


class Arguments(Watched):
    """Mistakes: tensors or numbers of another call; a record of what a tensor was."""

    def test_every_op(self):
        """What arrives is what the general way hands over."""
        for op in OPS:
            size = {"half": 4}
            inputs = []
            for row in (op.tensors[i] for i in op.inputs):
                dtype = {1: torch.float32, 5: torch.int64, 4: torch.int32}.get(row.dtype, torch.bfloat16)
                inputs.append(torch.zeros([size.get(dim, 8) for dim in row.dims], dtype=dtype))
            asked = {op.tensors[i].name: True for i in op.outputs if op.tensors[i].optional}
            function = getattr(kfuse, op.name)
            for given in ({}, asked):
                with self.subTest(op=op.name, asked=given):
                    first = function(*inputs, **given)
                    results = []
                    seen, _ = self.ran(lambda f=function, g=given, i=inputs, r=results: r.append(f(*i, **g)))
                    self.assertEqual(type(results[-1]), type(first))
                    several = isinstance(first, tuple)
                    names = first._fields if several else [op.tensors[op.outputs[0]].name]
                    outputs = results[-1] if several else results[-1:]
                    for one, other in zip(outputs, first if several else [first]):
                        self.assertEqual((one.shape, one.dtype), (other.shape, other.dtype))
                    tensors = dict(zip((op.tensors[i].name for i in op.inputs), inputs), **dict(zip(names, outputs)))
                    self.assertEqual(seen, {name: self.at(tensor) for name, tensor in tensors.items()})

    def test_tensors_that_change(self):
        x, y = torch.randn(4, 64), torch.empty(4, 64)
        bias = torch.randn(64)
        kfuse.bias_gelu(x, bias, out=y)

        def set_(tensor):
            tensor.set_(torch.randn(6, 64))

        def data(tensor):
            tensor.data = torch.randn(6, 128)[:, 64:]

        changes = (
            lambda t: t.resize_(2, 2, 64),
            set_,
            lambda t: t.as_strided_((6, 64), (0, 1)) if t is x else t.resize_(6, 64),
            lambda t: t.as_strided_((2, 64), (64, 1)),
            data,
        )
        for change in changes:
            for tensor in (x, y):
                change(tensor)
            self.calls.clear()
            with self.subTest():
                kfuse.bias_gelu(x, bias, out=y)
                self.assertEqual(self.calls, [], "taken for what it was")
                seen, _ = self.ran(lambda: kfuse.bias_gelu(x, bias, out=y))
                self.assertEqual((seen["x"], seen["y"]), (self.at(x), self.at(y)))
        x.data = x.data.half()
        with self.assertRaisesRegex(kfuse.InvalidError, "dtypes"):
            kfuse.bias_gelu(x, bias, out=y)

    def test_dtypes(self):
        y = torch.empty(4, 64)
        for dtype in (torch.float32, torch.float16, torch.bfloat16):
            x = torch.randn(4, 64).to(dtype)
            for _ in range(3):
                self.assertEqual(kfuse.softmax(x).dtype, dtype)
            if dtype == y.dtype:
                kfuse.softmax(x, out=y)
            else:
                with self.assertRaisesRegex(kfuse.InvalidError, "dtypes"):
                    kfuse.softmax(x, out=y)

    def test_streams(self):
        """Mistake: the stream of the call before."""
        x, y, at = torch.randn(4, 64), torch.empty(4, 64), [4096]
        device, stream = _devices.direct_device(0), own.current_stream
        try:
            own.current_stream = lambda index: at[0]
            for native in (4096, 8192, 4096, 8192):
                at[0] = native
                kfuse.softmax(x, out=y)
                self.ran(lambda: kfuse.softmax(x, out=y))
                self.assertEqual(self.queues[-1], device.streams[native].calls)
        finally:
            own.current_stream = stream

    def test_no_memory(self):
        """Mistake: an address that is none."""
        x = torch.randn(4, 64)
        kfuse.softmax(x)
        x.untyped_storage().resize_(0)
        with self.assertRaisesRegex(kfuse.InvalidError, "offset"):
            kfuse.softmax(x)
        for _ in range(2):
            self.assertEqual(kfuse.softmax(torch.empty(0, 64)).shape, (0, 64))

    def test_addresses_of_any_alignment(self):
        room = torch.randn(600)
        odd = torch.frombuffer(bytearray(1032), dtype=torch.uint8)[1:1025].view(4, 256)
        odd = torch.from_numpy(odd.numpy().view("float32"))
        for _ in range(2):
            with self.assertRaisesRegex(kfuse.InvalidError, "not aligned"):
                kfuse.softmax(odd, out=torch.empty(4, 64))
        for at in (0, 1, 5, 16):
            x, y = room[at : at + 256].view(4, 64), room[300 : 300 + 256].view(4, 64)
            kfuse.softmax(x, out=y)
            self.assertEqual(self.ran(lambda x=x, y=y: kfuse.softmax(x, out=y))[0], {"x": self.at(x), "y": self.at(y)})
        self.assertEqual(len(op_named("softmax").records), 1)

    def test_an_axis_of_one_element(self):
        """Mistake: a record of a stride that says nothing, made for others; or contiguous, made of what is not."""
        x, narrow = torch.randn(1, 64), torch.randn(1, 64).as_strided((1, 64), (7, 1))
        for tensor in (narrow, narrow, x):
            self.assertTrue(kfuse.softmax(tensor).is_contiguous())
        self.assertEqual(self.calls, [])
        for tensor in (x, narrow):
            self.assertEqual(self.ran(lambda t=tensor: kfuse.softmax(t))[0]["x"][2], (64, 1))
        wide = torch.randn(4, 128)[:, 64:]
        kfuse.softmax(wide)
        self.assertEqual(self.ran(lambda: kfuse.softmax(wide))[0]["x"][2], (128, 1))

    def test_numbers(self):
        x = torch.randn(4, 64)
        for _ in range(2):
            kfuse.layer_norm(x)
            kfuse.layer_norm(x, eps=0.5)
            kfuse.layer_norm(x, eps=1)
            kfuse.dropout_add(x, x, p=0.5)
        self.assertEqual(self.ran(lambda: kfuse.layer_norm(x))[1], [1e-5, -1])
        self.assertEqual(self.ran(lambda: kfuse.layer_norm(x, eps=float("0.5")))[1], [0.5, -1])
        self.assertEqual(self.ran(lambda: kfuse.layer_norm(x, eps=1))[1], [1.0, -1])
        self.assertEqual(self.ran(lambda: kfuse.layer_norm(x, eps=torch.tensor(0.5)))[1], [0.5, -1])
        records = len(op_named("layer_norm").records)
        kfuse.layer_norm(x, eps=float("1e-5"), axis=int("-1"))
        self.assertEqual(len(op_named("layer_norm").records), records)
        for seed in (3, 1 << 40, 0):
            kfuse.dropout_add(x, x, p=0.5, seed=seed)
            self.assertEqual(self.ran(lambda seed=seed: kfuse.dropout_add(x, x, p=0.5, seed=seed))[1], [0.5, seed])
        for wrong in (lambda: kfuse.softmax(x, axis=-1.0), lambda: kfuse.dropout_add(x, x, seed=0.5)):
            self.assertRaises(TypeError, wrong)
        with self.assertRaisesRegex(kfuse.InvalidError, "'all' is no approximate"):
            kfuse.bias_gelu(x, x[0], approximate="all")

    def test_places(self):
        """Mistakes: in place taken for another place, or the other way round; what was asked for before."""
        x, r, w = torch.randn(4, 64), torch.randn(4, 64), torch.randn(64)
        y, rstd = torch.empty(4, 64), torch.empty(4)
        for _ in range(2):
            self.assertIs(kfuse.softmax(x, out=x), x)
            self.assertIs(kfuse.softmax(x, out=y), y)
            self.assertIsNot(kfuse.softmax(x, out=True), x)
            self.assertIsNot(kfuse.softmax(x, y=False), x)
            got = kfuse.add_rms_norm(x, r, w, residual_out=r)
            self.assertIs(got.residual_out, r)
            self.assertEqual((got._fields, got.y.shape), (("y", "residual_out"), (4, 64)))
            got = kfuse.add_rms_norm(x, r, w, residual_out=r, rstd=rstd, y=y)
            self.assertEqual([got.y is y, got.residual_out is r, got.rstd is rstd], [True] * 3)
            self.assertIsInstance(kfuse.layer_norm(x, mean=False), torch.Tensor)
            self.assertEqual(kfuse.layer_norm(x, mean=False, rstd=True)._fields, ("y", "rstd"))
        self.assertEqual(self.ran(lambda: kfuse.softmax(x, out=x))[0], {"x": self.at(x), "y": self.at(x)})
        before = x._version, y._version, rstd._version, r._version, w._version
        kfuse.add_rms_norm(x, r, w, residual_out=r, rstd=rstd, y=y)
        after = x._version, y._version, rstd._version, r._version, w._version
        self.assertEqual([b - a for a, b in zip(before, after)], [0, 1, 1, 1, 0])
        with torch.inference_mode():
            for place in (torch.empty(4, 64), y):
                kfuse.softmax(x, out=place)
                self.ran(lambda place=place: kfuse.softmax(x, out=place))

    def test_arrays_of_others(self):
        x, w = torch.randn(4, 64), torch.randn(64)
        kfuse.layer_norm(x, w)
        self.ran(lambda: kfuse.layer_norm(x, w.numpy()), 0)
        for wrong in ([1.0], 3):
            with self.assertRaisesRegex(TypeError, "'weight' is a"):
                kfuse.layer_norm(x, wrong)
        with self.assertRaisesRegex(kfuse.InvalidError, "needs the tensor 'residual'"):
            kfuse.add_rms_norm(x, None)

    def test_a_device_of_another_index(self):
        """Mistake: a tensor elsewhere taken for one here."""
        x, w = torch.randn(4, 64), torch.randn(64)
        kfuse.layer_norm(x, w)
        key = next(iter(op_named("layer_norm").ready))
        at = [i for i, part in enumerate(key) if type(part) is int]
        self.assertEqual([key[i] for i in at], [x.get_device()])
        self.assertEqual([type(part) for part in next(p for p in key if type(p) is tuple)].count(int), 1)
        with self.assertRaisesRegex(kfuse.InvalidError, "meta"):
            kfuse.layer_norm(torch.empty(4, 65, device="meta"))


class Lookers(Watched):
    """Mistakes: the short way taken where somebody has to see the op, or a gradient."""

    def test_gradients(self):
        x, w = torch.randn(4, 64), torch.randn(64)
        kfuse.layer_norm(x, w)
        for tensor in (x, w):
            tensor.requires_grad_()
            self.ran(lambda: self.assertTrue(kfuse.layer_norm(x, w).requires_grad), 0)
            with torch.no_grad():
                kfuse.layer_norm(x, w)
                self.ran(lambda: self.assertFalse(kfuse.layer_norm(x, w).requires_grad))
            with torch.inference_mode():
                self.ran(lambda: kfuse.layer_norm(x, w))
            self.assertTrue(kfuse.layer_norm(x, w).requires_grad)
            tensor.requires_grad_(False)
        place = torch.empty(4, 64)
        kfuse.layer_norm(x, w, out=place)
        place.requires_grad_()
        for _ in range(2):
            with self.assertRaisesRegex(kfuse.InvalidError, "cannot be given a place"):
                kfuse.layer_norm(x, w, out=place)
        with torch.no_grad():
            kfuse.layer_norm(x, w, out=place)
        with self.assertRaisesRegex(kfuse.InvalidError, "cannot be given a place"):
            kfuse.layer_norm(x, w, out=place)

    def test_lazily_negated(self):
        x, w, y = torch.randn(4, 64), torch.randn(64), torch.empty(4, 64)
        kfuse.layer_norm(x, w, out=y)
        for name, arguments in (("x", (-1, 1, 1)), ("weight", (1, -1, 1)), ("y", (1, 1, -1))):
            tensors = [torch._neg_view(t) if sign < 0 else t for t, sign in zip((x, w, y), arguments)]
            for _ in range(2):
                with self.assertRaisesRegex(kfuse.InvalidError, f"'{name}'.*resolve_neg"):
                    kfuse.layer_norm(tensors[0], tensors[1], out=tensors[2])

    def test_modes_transforms_and_traces(self):
        class Log(TorchDispatchMode):
            def __torch_dispatch__(self, function, types, arguments=(), named=None):
                seen.append(str(function))
                return function(*arguments, **(named or {}))

        seen, x = [], torch.randn(4, 64)
        kfuse.softmax(x)
        with Log():
            kfuse.softmax(x)
        self.assertIn("kfuse.softmax.default", seen)
        self.assertIn("kfuse::softmax", str(torch.jit.trace(lambda t: kfuse.softmax(t), x, check_trace=False).graph))
        self.ran(lambda: torch.vmap(kfuse.softmax)(x[:, None]), 0)
        with self.assertRaises(RuntimeError):  # torch's own
            torch.func.grad(lambda t: kfuse.softmax(t).sum())(x)
        with torch.autograd.forward_ad.dual_level():
            dual = torch.autograd.forward_ad.make_dual(x, x)
            with self.assertRaisesRegex(kfuse.UnsupportedError, "tangent"):
                kfuse.softmax(dual)
        graphs = []
        torch.compile(kfuse.softmax, backend=lambda m, _: graphs.append(str(m.graph)) or m, fullgraph=True)(x)
        self.assertIn("kfuse", graphs[0])

    def test_kinds_of_tensors(self):
        class Logged(torch.Tensor):
            @classmethod
            def __torch_dispatch__(cls, function, types, arguments=(), named=None):
                seen.append(str(function))
                return torch.empty(4, 64)

        class Plain(torch.Tensor):
            pass

        seen, x = [], torch.randn(4, 64)
        kfuse.softmax(x)
        self.ran(lambda: kfuse.softmax(torch.nn.Parameter(x, requires_grad=False)))
        kfuse.softmax(x.as_subclass(Plain))
        self.ran(lambda: kfuse.softmax(torch.Tensor._make_subclass(Logged, x)), 0)
        self.assertIn("kfuse.softmax.default", seen)
        for layout in ("to_sparse", "to_sparse_csr"):
            with self.assertRaises(RuntimeError):  # torch's own
                kfuse.softmax(getattr(x, layout)())


class Together(Watched):
    """Mistakes: addresses of one thread in the call of another; a device used by two at once; a lock of a process that
    this one was copied from."""

    def look(self, calls, symbol, pointers, numbers):
        self.inside += 1
        wrong = self.inside != 1
        first = [place.contents.offset for place in pointers._obj]
        time.sleep(0)
        wrong |= first != [place.contents.offset for place in pointers._obj]
        self.wrong += wrong
        self.pairs.append(tuple(_devices.BASE + 4 * offset for offset in first))
        self.inside -= 1
        return self.real(calls, symbol, pointers, numbers)

    def test_two_threads(self):
        self.inside, self.wrong, self.pairs = 0, 0, []
        tensors = [(torch.randn(4, 64), torch.empty(4, 64)) for _ in range(4)]

        def work(x, y):
            for _ in range(500):
                kfuse.softmax(x, out=y)

        threads = [threading.Thread(target=work, args=pair) for pair in tensors]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(self.wrong, 0)
        self.assertEqual(set(self.pairs), {(x.data_ptr(), y.data_ptr()) for x, y in tensors})
        self.assertGreater(len(self.pairs), 1900)

    def test_after_a_fork(self):
        self.inside, self.wrong, self.pairs = 0, 0, []
        x, device = torch.randn(4, 64), _devices.direct_device(0)
        kfuse.softmax(x)
        lock, device.lock = device.lock, _devices._Forked()
        try:
            self.assertRaises(kfuse.UnavailableError, kfuse.softmax, x)
        finally:
            device.lock = lock

    def test_a_failure_is_told_and_leaves_the_lock(self):
        self.inside, self.wrong, self.pairs = 0, 0, []
        x, y, real = torch.randn(4, 64), torch.empty(4, 64), self.real
        kfuse.softmax(x, out=y)
        space["_kf_call"] = lambda calls, symbol, pointers, numbers: real(calls, b"soft", pointers, numbers)
        for _ in range(2):
            with self.assertRaisesRegex(kfuse.Error, "soft"):
                kfuse.softmax(x, out=y)
        space["_kf_call"] = self.look
        kfuse.softmax(x, out=y)
        self.assertEqual(len(self.pairs), 1)


if __name__ == "__main__":
    unittest.main()
