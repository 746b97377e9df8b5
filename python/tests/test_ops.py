"""Several ops against their formulas in double precision, on NumPy arrays. SPDX-License-Identifier: Apache-2.0"""

import inspect
import math
import os
import subprocess
import sys
import threading
import unittest
from unittest import mock

import numpy as np

import kfuse
from kfuse import _devices, _table

RANDOM = np.random.default_rng(7)


def normal(*shape, dtype=np.float32):
    return RANDOM.standard_normal(shape).astype(dtype)


def near(got, wanted, factor=16):
    """Within some roundings of the dtype of the result, at the scale of the largest element."""
    unit = float(np.finfo(got.dtype).eps)
    bound = factor * unit * (1 + np.abs(wanted))
    worst = np.max(np.abs(got.astype(float) - wanted) / bound, initial=0)
    assert got.shape == wanted.shape, (got.shape, wanted.shape)
    assert worst <= 1, f"{worst} times the bound"


def softmax(x, axis=-1):
    e = np.exp(x - x.max(axis, keepdims=True))
    return e / e.sum(axis, keepdims=True)


def gelu(x):
    return x * 0.5 * (1 + np.vectorize(math.erf)(x / math.sqrt(2)))


def layer_norm(x, eps=1e-5):
    mean = x.mean(-1, keepdims=True)
    rstd = 1 / np.sqrt(x.var(-1, keepdims=True) + eps)
    return (x - mean) * rstd, mean[..., 0], rstd[..., 0]


class Values(unittest.TestCase):
    """Mistakes: a tensor in the place of another; an attribute that does not arrive; a wrong result shape."""

    def test_softmax_on_any_axis(self):
        x = normal(3, 5, 40)
        for axis in (-1, 0, 1, 2, -2):
            near(kfuse.softmax(x, axis=axis), softmax(x.astype(float), axis))
            near(kfuse.log_softmax(x, axis=axis), np.log(softmax(x.astype(float), axis)))

    def test_layer_norm_with_and_without(self):
        x, weight, bias = normal(4, 6, 100), normal(100), normal(100)
        norm, mean, rstd = layer_norm(x.astype(float), 1e-3)
        near(kfuse.layer_norm(x), layer_norm(x.astype(float))[0])
        near(kfuse.layer_norm(x, weight, eps=1e-3), norm * weight)
        near(kfuse.layer_norm(x, bias=bias, eps=1e-3), norm + bias)
        got = kfuse.layer_norm(x, weight, bias, eps=1e-3, mean=True, rstd=True)
        self.assertEqual(got._fields, ("y", "mean", "rstd"))
        near(got.y, norm * weight + bias)
        near(got.mean, mean)
        near(got.rstd, rstd)
        y, rstd_only = kfuse.layer_norm(x, eps=1e-3, rstd=True)
        near(rstd_only, rstd)

    def test_another_seed_is_another_mask_and_no_other_record(self):
        x, zero = np.ones((8, 100), np.float32), np.zeros((8, 100), np.float32)
        masks = [kfuse.dropout_add(x, zero, p=0.5, seed=seed) for seed in (1, 2, 1)]
        self.assertTrue((masks[0] == masks[2]).all() and (masks[0] != masks[1]).any())
        records = next(op.records for op in _table.OPS if op.name == "dropout_add")
        kfuse.dropout_add(x, zero, p=0.5, seed=-3)
        before = len(records)
        kfuse.dropout_add(x, zero, p=0.5, seed=1 << 40)
        self.assertEqual(len(records), before)
        with self.assertRaises(TypeError):
            kfuse.dropout_add(x, zero, seed=0.5)

    def test_axes_that_are_normalised_together(self):
        x, weight = normal(3, 4, 25), normal(4, 25)
        wanted, mean, _ = layer_norm(x.reshape(3, 100).astype(float))
        got = kfuse.layer_norm(x, weight, axis=1, mean=True)
        near(got.y, wanted.reshape(3, 4, 25) * weight)
        near(got.mean, mean)

    def test_two_results(self):
        x, residual, weight = normal(7, 64), normal(7, 64), normal(64)
        total = x.astype(float) + residual
        y, after = kfuse.add_rms_norm(x, residual, weight, offset=1)
        near(after, total)
        near(y, total / np.sqrt((total**2).mean(-1, keepdims=True) + 1e-5) * (weight + 1))

    def test_gated_units(self):
        gate, up = normal(5, 33), normal(5, 33)
        wide = gate.astype(float)
        near(kfuse.swiglu(gate, up), wide / (1 + np.exp(-wide)) * up)
        near(kfuse.geglu(gate, up), gelu(wide) * up)

    def test_attributes_by_word_and_number(self):
        x, bias = normal(5, 33), normal(33)
        total = x.astype(float) + bias
        near(kfuse.bias_gelu(x, bias), gelu(total))
        tanh = 0.5 * total * (1 + np.tanh(math.sqrt(2 / math.pi) * (total + 0.044715 * total**3)))
        near(kfuse.bias_gelu(x, bias, approximate="tanh"), tanh)
        near(kfuse.bias_gelu(x, bias, approximate=1), tanh)

    def test_cross_entropy(self):
        logits, target = normal(6, 50), RANDOM.integers(0, 50, 6)
        loss = -np.log(softmax(logits.astype(float)))[np.arange(6), target]
        near(kfuse.cross_entropy(logits, target), loss)
        mean = kfuse.cross_entropy(logits, target, reduction="mean", dlogits=True)
        near(mean.loss, np.array(loss.mean()))
        hot = np.zeros((6, 50))
        hot[np.arange(6), target] = 1
        near(mean.dlogits, (softmax(logits.astype(float)) - hot) / 6)

    def test_backward(self):
        grad, x = normal(4, 30), normal(4, 30)
        y = kfuse.softmax(x)
        inner = (grad.astype(float) * y).sum(-1, keepdims=True)
        near(kfuse.softmax_backward(grad, y), y * (grad - inner))
        norm, mean, rstd = layer_norm(x.astype(float))
        statistics = mean.astype(np.float32), rstd.astype(np.float32)
        weight = normal(30)
        got = kfuse.layer_norm_backward(grad, x, weight, *statistics, grad_weight=True, grad_bias=True)
        near(got.grad_weight, (grad * norm).sum(0))
        near(got.grad_bias, grad.astype(float).sum(0))

    def test_half_precision(self):
        x = normal(9, 77, dtype=np.float16)
        y = kfuse.softmax(x)
        self.assertEqual(y.dtype, np.float16)
        near(y, softmax(x.astype(float)), 2)
        got = kfuse.layer_norm(x, mean=True)
        self.assertEqual(got.mean.dtype, np.float32)
        near(got.y, layer_norm(x.astype(float))[0], 2)

    def test_nothing_to_do(self):
        self.assertEqual(kfuse.softmax(normal(0, 8)).shape, (0, 8))


class Refusals(unittest.TestCase):
    """Mistakes: a wrong call that computes something; an exception without a sentence or of no kind."""

    def refused(self, kind, words, function, *arguments, **named):
        with self.assertRaises(kind) as caught:
            function(*arguments, **named)
        self.assertRegex(str(caught.exception), words)
        return caught.exception

    def test_the_library_says_why(self):
        x = normal(4, 20)
        error = self.refused(ValueError, "weight.*21.*20", kfuse.layer_norm, x, normal(21))
        self.assertIsInstance(error, kfuse.Error)
        self.assertIs(error.status, kfuse.Status.KF_INVALID)
        self.refused(kfuse.InvalidError, "different dtypes", kfuse.swiglu, x, x.astype(np.float16))
        self.refused(kfuse.InvalidError, "i64, not i32", kfuse.cross_entropy, x, np.zeros(4, np.int32))
        self.refused(kfuse.InvalidError, "stride", kfuse.rms_norm, x.T)
        self.refused(kfuse.InvalidError, "axis=3", kfuse.softmax, x, axis=3)
        self.refused(kfuse.InvalidError, "eps", kfuse.layer_norm, x, eps=-1)
        self.refused(kfuse.InvalidError, "y", kfuse.softmax, x, out=np.empty((4, 21), np.float32))

    def test_what_is_no_array_of_ours(self):
        x = normal(4, 20)
        self.refused(kfuse.InvalidError, "float64", kfuse.softmax, x.astype(float))
        self.refused(kfuse.InvalidError, "order", kfuse.softmax, x.astype(">f4"))
        self.refused(kfuse.InvalidError, "masked", kfuse.softmax, np.ma.masked_array(x, x > 1))
        self.refused(kfuse.InvalidError, "negative", kfuse.softmax, x[:, ::-1])
        self.refused(kfuse.InvalidError, "needs the tensor 'x'", kfuse.softmax, None)
        self.refused(kfuse.InvalidError, "9 axes", kfuse.softmax, normal(*[1] * 9))
        self.refused(TypeError, "list", kfuse.softmax, [1.0, 2.0])
        fixed = np.empty_like(x)
        fixed.flags.writeable = False
        self.refused(kfuse.InvalidError, "read-only", kfuse.softmax, x, out=fixed)

    def test_arguments(self):
        x = normal(4, 20)
        self.refused(TypeError, "axes", kfuse.softmax, x, axes=1)
        self.refused(TypeError, "whole number", kfuse.softmax, x, axis=0.5)
        self.refused(TypeError, "number", kfuse.layer_norm, x, eps=[1])
        self.refused(kfuse.InvalidError, "none, tanh", kfuse.bias_gelu, x, normal(20), approximate="cosh")
        self.refused(TypeError, "positional", kfuse.softmax, x, 1)
        self.refused(TypeError, "twice", kfuse.softmax, x, y=x, out=x)

    def test_attributes_are_numbers_of_their_time(self):
        """Mistakes: an array looked up by where it lies; a whole number that wraps; one taken for an equal one."""
        x = normal(4, 20)
        eps = np.array(1e-5)
        near(kfuse.layer_norm(x, eps=eps), layer_norm(x.astype(float))[0])
        eps[...] = 10
        near(kfuse.layer_norm(x, eps=eps), layer_norm(x.astype(float), 10)[0])
        near(kfuse.softmax(x, axis=np.int32(0)), softmax(x.astype(float), 0))
        kfuse.softmax(x, axis=1)
        self.refused(TypeError, "whole number", kfuse.softmax, x, axis=1.0)
        self.refused(TypeError, "takes a number", kfuse.layer_norm, x, eps=np.ones(2))
        self.refused(kfuse.InvalidError, "axis=18446744073709551615", kfuse.softmax, x, axis=2**64 - 1)
        ends = [kfuse.dropout_add(x, x, seed=seed) for seed in (2**63 - 1, -(2**63))]
        self.assertFalse(np.array_equal(*ends))
        for seed in (2**63, 2**64 + 1, -(2**63) - 1):
            self.refused(kfuse.InvalidError, "seed", kfuse.dropout_add, x, x, seed=seed)

    def test_a_failure_changes_nothing(self):
        x = normal(4, 20)
        for _ in range(3):
            self.refused(kfuse.InvalidError, "weight", kfuse.layer_norm, x, normal(21))
            near(kfuse.layer_norm(x), layer_norm(x.astype(float))[0])


class Shapes(unittest.TestCase):
    """Mistake: a rule of kfuse.h about dims that no op of today needs, read otherwise."""

    def shapes(self, any_axis, numbers, given, *outputs):
        row = dict(in_place=(), scalar="", help="", dtype=0, optional=False, below="")
        tensors = [_table.TensorRow(name, dims, output=False, **row) for name, (dims, _) in given.items()]
        tensors += [_table.TensorRow(dim, (dim,), output=True, **row) for dim in outputs]
        op = _table.Op("op", "", "", (), any_axis, tuple(tensors), ())
        found = op.shapes({name: shape for name, (_, shape) in given.items()}, numbers)
        return [found[dim] for dim in outputs]

    def test_which_axes_are_which_dim(self):
        matrix, tokens = ("rows", "cols"), ("tokens", "heads", "dim")
        x = {"x": (matrix, (2, 3, 5))}
        self.assertEqual(self.shapes(True, {"axis": 1}, x, "rows", "cols"), [(2, 5), (3,)])
        self.assertEqual(self.shapes(True, {"axis": -1}, x, "rows", "cols"), [(2, 3), (5,)])
        self.assertEqual(self.shapes(False, {"axis": 1}, x, "rows", "cols"), [(2,), (3, 5)])
        self.assertEqual(self.shapes(False, {}, x, "rows", "cols"), [(2, 3), (5,)])
        deep = {"weight": (("dim",), (7,)), "x": (tokens, (2, 3, 5, 7))}
        self.assertEqual(self.shapes(False, {}, deep, "tokens", "heads", "dim"), [(2, 3), (5,), (7,)])
        self.assertEqual(self.shapes(False, {}, x, "other"), [None])


class Package(unittest.TestCase):
    def test_threads(self):
        """Mistake: two threads in one device, or one's addresses in the call of another."""
        failures = []

        def work(seed):
            try:
                random = np.random.default_rng(seed)
                for _ in range(20):
                    x = random.standard_normal((seed + 1, 50)).astype(np.float32)
                    near(kfuse.softmax(x), softmax(x.astype(float)))
                    near(kfuse.rms_norm(x, eps=0), x / np.sqrt((x.astype(float) ** 2).mean(-1, keepdims=True)))
            except BaseException as error:  # whatever it is, the test is to hear of it
                failures.append(error)

        threads = [threading.Thread(target=work, args=(i % 3,)) for i in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(failures, [])

    def test_after_a_fork(self):
        """Mistakes: a child that waits for ever for threads it does not have; one refused that opened the device."""
        code = """
import os, signal, sys, kfuse, numpy
from kfuse import _devices
x = numpy.ones((2, 4), numpy.float32)
def child(wanted):
    pid = os.fork()
    if pid == 0:
        signal.alarm(30)
        try:
            _devices.pretend = wanted == "another device"
            kfuse.softmax(x)
            os._exit(0 if wanted == "works" else 1)
        except kfuse.UnavailableError as error:
            os._exit(0 if wanted != "works" and "forked" in str(error) else 2)
    status = os.waitpid(pid, 0)[1]
    if status:
        sys.exit(f"{wanted}: the child ended with {status}")
child("works")
kfuse.softmax(x)
child("is refused")
child("another device")
kfuse.softmax(x)
"""
        subprocess.run([sys.executable, "-c", code], check=True)

    def test_the_device_is_chosen_as_for_the_command(self):
        """Mistake: a struct of kfuse.h read at the wrong places."""
        info = _devices.devices_of("opencl")[0]
        self.assertRegex(info.id.decode(), r"^opencl:\d+")
        self.assertGreater(info.target.max_threads, 0)
        self.assertGreater(info.target.base_alignment, 0)
        name = info.name.decode()
        for text in ("", info.id.decode(), name[2:].upper()):
            with mock.patch.dict(os.environ, {"KFUSE_DEVICE": text, "KFUSE_BACKEND": ""}):
                self.assertEqual(_devices._chosen(), (b"opencl", 0))
        unknown = mock.patch.dict(os.environ, {"KFUSE_DEVICE": "no such device"})
        with unknown, self.assertRaisesRegex(kfuse.UnavailableError, "no such device.*opencl"):
            _devices._chosen()

    def test_functions_are_readable(self):
        text = str(inspect.signature(kfuse.layer_norm))
        self.assertEqual(
            text, "(x, weight=None, bias=None, *, eps=1e-05, axis=-1, y=None, mean=None, rstd=None, out=None)"
        )
        self.assertIn("may be x itself", kfuse.layer_norm.__doc__)
        self.assertRegex(kfuse.__version__, r"^\d+\.\d+\.\d+$")


if __name__ == "__main__":
    unittest.main()
