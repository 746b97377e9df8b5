"""The judge of results, and the slices in which it looks at them. Mistakes caught: a NaN or an infinity that passes, a
tolerance that is not the one told here in numbers, rows behind the first slice that nobody looks at, a share of dropped
elements that is not p. SPDX-License-Identifier: Apache-2.0"""

import math
import os
import sys
import unittest
from unittest import mock

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from rig import HAS_NUMPY, HAS_TORCH

# isort: split
import check
import sides

import ops

UNIT = 2.0**-24
# of softmax with 16 columns: 32 + 4 for the sum of 16 + 1, in units of f32; see check.units
ALLOWED = 37 * UNIT


class Judged:
    """Tests of one side: `self.side`, `self.array(list, dtype)`."""

    def case(self, op="softmax", shape=(8, 16), dtype="f32"):
        return ops.make_case(op, dtype, list(shape))

    def ready(self, case):
        """(inputs, fingerprints, right outputs in double precision, sizes of their terms)"""
        data = sides.fresh_inputs(self.side, case, 0)
        truth = case.op.truth(self.side, sides.wide_part(self.side, case, data, 0, case.shape[0]))
        right = {name: value + 0 for name, (value, _) in truth.items()}
        sizes = {name: size for name, (_, size) in truth.items()}
        return data, sides.fingerprints(self.side, case, data), right, sizes

    def check(self, case, data, before, got, stored=False):
        return check.check(self.side, case, data, got, stored, before)

    def one(self, got, value, size, dtype="f32", allowed=ALLOWED):
        """Is one element of a dtype right?"""
        verdict, case = check.Verdict(), self.case(shape=(1, 1), dtype=dtype)
        wide = [self.side.wide(self.array([[number]], "f32")) for number in (value, size)]
        wide[0] += value - wide[0]  # what f32 cannot hold
        check.judge(self.side, case, case.op.outputs[0], self.array([[got]], dtype), *wide, allowed, verdict)
        return not verdict.reason and verdict.bad == 0

    # ---- what is no number ----

    def test_no_number_is_right(self):
        for op, shape in (("softmax", (8, 16)), ("rms_norm_backward", (8, 16)), ("cross_entropy_grad", (8, 16))):
            case = self.case(op, shape)
            for stored in (False, True):
                data, before, right, _ = self.ready(case)
                self.assertEqual(self.check(case, data, before, right, stored).reason, "")
                for name in right:
                    for value in (math.nan, math.inf, -math.inf):
                        for place in (0, -1):
                            got = {key: values + 0 for key, values in right.items()}
                            got[name].reshape(-1)[place] = value
                            verdict = self.check(case, data, before, got, stored)
                            self.assertIn(f"'{name}' is wrong", verdict.reason)
                            self.assertEqual(verdict.bad, 1)
                            self.assertIsNone(verdict.as_json()["verified"])
        for dtype in self.dtypes:
            self.assertFalse(self.one(math.nan, 1, 1, dtype))
            self.assertFalse(self.one(math.inf, 1, 1, dtype))

    # ---- tolerances ----

    def test_units(self):
        self.assertAlmostEqual(check.units(self.case(), False) / ALLOWED, 1)
        self.assertAlmostEqual(check.units(self.case("rms_norm_backward", (64, 16)), False) / (44 * UNIT), 1)
        self.assertAlmostEqual(check.units(self.case("elementwise", (99,)), False) / (34 * UNIT), 1)
        for dtype, step in (("f32", 2.0**-23), ("f16", 2.0**-10), ("bf16", 2.0**-7)):
            self.assertAlmostEqual(check.units(self.case(dtype=dtype), True) / (ALLOWED + 8 * step), 1)

    def test_arithmetic(self):
        case = self.case()
        for sign in (-1, 1):
            for share, right in ((0.5, True), (0.99, True), (1.01, False), (2, False)):
                data, before, got, sizes = self.ready(case)
                got["y"][-1, -1] += sign * share * ALLOWED * sizes["y"][-1, -1]
                verdict = self.check(case, data, before, got)
                self.assertEqual(not verdict.reason, right, share)
                self.assertAlmostEqual(verdict.ratio, share, places=5)
                self.assertEqual(verdict.checked, 128)

    def test_storing(self):
        steps = {"f32": 2.0**-23, "f16": 2.0**-10, "bf16": 2.0**-7}
        for dtype in self.dtypes:
            step = steps[dtype]
            self.assertTrue(self.one(1 - step / 2, 1, 0, dtype))
            self.assertTrue(self.one(1 + step, 1, 0, dtype))
            self.assertFalse(self.one(1 - 2 * step, 1, 0, dtype))
            self.assertFalse(self.one(1 + 2 * step, 1, 0, dtype))
            self.assertFalse(self.one(-1, 1, 0, dtype))
            self.assertTrue(self.one(8 - 4 * step, 8, 0, dtype))
            self.assertFalse(self.one(8 - 16 * step, 8, 0, dtype))
        self.assertTrue(self.one(1 - 149 * UNIT, 1, 8))  # half of 2^-23 + 37 units of 8
        self.assertFalse(self.one(1 - 596 * UNIT, 1, 8))

    def test_next_to_zero(self):
        for dtype, tiny in (("f32", 2.0**-120), ("f16", 2.0**-24), ("bf16", 2.0**-120)):
            if dtype in self.dtypes:
                self.assertTrue(self.one(tiny, 0, 0, dtype))
                self.assertFalse(self.one(2 * tiny, 0, 0, dtype))

    # ---- what there is to look at ----

    def test_something_else_than_a_result(self):
        case = self.case("add_rms_norm")
        data, before, right, _ = self.ready(case)
        self.assertIn("there is no 'residual_out'", self.check(case, data, before, {"y": right["y"]}).reason)
        short = {**right, "y": right["y"][:, :8]}
        self.assertIn("'y' has the shape (8, 8), not (8, 16)", self.check(case, data, before, short).reason)
        data["residual"][7, 15] += 1
        self.assertIn("it wrote over 'residual'", self.check(case, data, before, right).reason)

    # ---- slices ----

    def test_slices_are_all_rows_once(self):
        for rows in (1, 7, 8, 9, 64):
            case = self.case(shape=(rows, 16))
            for chunk in (1, 16, 3 * 16, 5 * 16 + 3, 1000):
                with mock.patch.object(sides, "SLICE", chunk):
                    found = sides.slices(case)
                seen = [row for first, last in found for row in range(first, last)]
                self.assertEqual(seen, list(range(rows)))
                self.assertTrue(all(last - first <= max(1, chunk // 16) for first, last in found))

    def test_every_slice_is_judged(self):
        for op in ("softmax", "layer_norm_backward", "cross_entropy_grad", "add_layer_norm"):
            case = self.case(op)
            data, before, right, sizes = self.ready(case)
            with mock.patch.object(sides, "SLICE", 3 * 16):
                self.assertEqual(len(sides.slices(case)), 3)
                verdict = self.check(case, data, before, right)
                self.assertEqual(verdict.reason, "")
                self.assertEqual(verdict.checked, sum(math.prod(values.shape) for values in right.values()))
                for name in right:
                    for place in (-1, 0):
                        got = {key: values + 0 for key, values in right.items()}
                        got[name].reshape(-1)[place] += (
                            3 * check.units(case, False) * float(sizes[name].reshape(-1)[place])
                        )
                        self.assertIn(f"'{name}' is wrong", self.check(case, data, before, got).reason)

    def test_derived_inputs_have_all_rows(self):
        for op in ("rms_norm_backward", "layer_norm_backward"):
            case = self.case(op)
            whole = sides.fresh_inputs(self.side, case, 0)
            with mock.patch.object(sides, "SLICE", 3 * 16):
                parts = sides.fresh_inputs(self.side, case, 0)
            for name in ("rstd", "mean") if op.startswith("layer") else ("rstd",):
                self.assertEqual(whole[name].tolist(), parts[name].tolist())

    # ---- randomness ----

    def dropped(self, count, rows=64):
        """dropout_add of 4096 elements with p = 0.1, of which `count` are dropped: (case, data, before, got)."""
        case = self.case("dropout_add", (rows, 4096 // rows))
        data = sides.fresh_inputs(self.side, case, 0)
        data["x"][...] = 1
        y = self.side.wide(data["residual"] * 0 + 1) * (1 / 0.9) + self.side.wide(data["residual"])
        y.reshape(-1)[:count] = self.side.wide(data["residual"]).reshape(-1)[:count]
        tells = int((0.25 * (abs(self.side.wide(data["residual"])) + 1) < 1 / 0.9).sum())
        self.assertGreater(tells, 4000)
        return case, data, sides.fingerprints(self.side, case, data), {"y": y}

    def test_the_share_of_dropped_elements(self):
        # 410 are expected; six standard deviations are 115
        for count, right in (
            (410, True),
            (350, True),
            (470, True),
            (270, False),
            (550, False),
            (0, False),
            (4096, False),
        ):
            verdict = self.check(*self.dropped(count))
            self.assertEqual(not verdict.reason, right, (count, verdict.reason))
            self.assertTrue(right or "elements were dropped; p is 0.1" in verdict.reason)
        with mock.patch.object(sides, "SLICE", 5 * 64):
            self.assertEqual(self.check(*self.dropped(410)).reason, "")
            self.assertIn("were dropped", self.check(*self.dropped(550)).reason)

    def test_neither_kept_nor_dropped(self):
        for value in (0.5, 100, math.nan):
            case, data, before, got = self.dropped(410)
            got["y"][-1, -1] += value
            self.assertIn("'y' is wrong", self.check(case, data, before, got).reason)


@unittest.skipUnless(HAS_NUMPY, "there is no NumPy")
class OfNumpy(Judged, unittest.TestCase):
    dtypes = ("f32", "f16")

    def setUp(self):
        self.side = sides.open_side("numpy")

    def array(self, values, dtype):
        return self.side.array(values, self.side.types[dtype])


@unittest.skipUnless(HAS_TORCH, "there is no torch")
class OfTorch(Judged, unittest.TestCase):
    dtypes = ("f32", "f16", "bf16")

    def setUp(self):
        self.side = sides.open_side("cpu")

    def array(self, values, dtype):
        return self.side.tensor(values, dtype=self.side.types[dtype])


if __name__ == "__main__":
    unittest.main()
