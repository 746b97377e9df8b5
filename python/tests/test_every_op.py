"""Every op of the library, with arrays made from its table. SPDX-License-Identifier: Apache-2.0"""

import os
import unittest

import numpy as np

import kfuse
from kfuse._table import NAMES, OPS

DTYPES = ("float32", "float16") if os.environ.get("KFUSE_LONG") else ("float32",)
SIZES = {"half": 4}  # rope turns at most the whole of a head
USUAL = 8


def array(row, dtype, random):
    shape = [SIZES.get(dim, USUAL) for dim in row.dims]
    if row.below:
        return random.integers(0, SIZES.get(row.below, USUAL), shape).astype(NAMES[row.dtype])
    return (random.random(shape) + 0.5).astype(NAMES[row.dtype] if row.dtype else dtype)


class EveryOp(unittest.TestCase):
    """Mistakes: an op that Python cannot call; a result of another shape or dtype than its table says; one that
    depends on whether a place was given for it."""

    def run_op(self, op, dtype):
        random = np.random.default_rng(3)
        function = getattr(kfuse, op.name)
        inputs = [array(op.tensors[i], dtype, random) for i in op.inputs]
        rows = [op.tensors[i] for i in op.outputs]
        asked = {row.name: True for row in rows if row.optional}
        results = function(*inputs, **asked)
        results = results if isinstance(results, tuple) else (results,)
        self.assertEqual(len(results), len(rows))
        for row, result in zip(rows, results):
            self.assertEqual(result.shape, tuple(SIZES.get(dim, USUAL) for dim in row.dims))
            self.assertEqual(result.dtype.name, NAMES[row.dtype] if row.dtype else dtype)
            self.assertTrue(np.isfinite(result).all())
        places = {row.name: np.full_like(result, 77) for row, result in zip(rows, results)}
        function(*inputs, **places)
        for row, result in zip(rows, results):
            np.testing.assert_array_equal(places[row.name], result)

    def test_all(self):
        self.assertGreaterEqual(len(OPS), 19)
        for op in OPS:
            for dtype in DTYPES:
                with self.subTest(op=op.name, dtype=dtype):
                    self.run_op(op, dtype)

    def test_in_place_where_the_table_allows(self):
        for op in OPS:
            first = op.tensors[op.outputs[0]]
            for name in first.in_place:
                with self.subTest(op=op.name, output=first.name, input=name):
                    random = np.random.default_rng(3)
                    inputs = [array(op.tensors[i], "float32", random) for i in op.inputs]
                    names = [op.tensors[i].name for i in op.inputs]
                    wanted = getattr(kfuse, op.name)(*inputs)
                    wanted = wanted[0] if isinstance(wanted, tuple) else wanted
                    getattr(kfuse, op.name)(*inputs, out=inputs[names.index(name)])
                    np.testing.assert_array_equal(inputs[names.index(name)], wanted)


if __name__ == "__main__":
    unittest.main()
