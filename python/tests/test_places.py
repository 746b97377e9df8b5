"""Where NumPy arrays lie: views, places given for results, in place, overlaps, and the copies of them on the device.
SPDX-License-Identifier: Apache-2.0"""

import unittest

import numpy as np
from test_ops import layer_norm, near, normal, softmax

import kfuse
from kfuse import _devices, _table


class Places(unittest.TestCase):
    """Mistakes: strides taken for contiguous; what lies between the elements of a view is written; a copy returned
    instead of the array that was given."""

    def test_views(self):
        whole = normal(6, 80)
        x = whole[::2, 10:50]
        near(kfuse.softmax(x), softmax(x.astype(float)))
        near(kfuse.layer_norm(x), layer_norm(x.astype(float))[0])
        deep = normal(3, 9, 20)[:, 1:8]
        near(kfuse.softmax(deep, axis=1), softmax(deep.astype(float), 1))
        row = np.broadcast_to(normal(40), (5, 40))
        near(kfuse.softmax(row), softmax(row.astype(float)))

    def test_given_places(self):
        x = normal(4, 20)
        wanted = softmax(x.astype(float))
        out = np.empty_like(x)
        self.assertIs(kfuse.softmax(x, out=out), out)
        near(out, wanted)
        board = np.full((4, 50), 9, np.float32)
        kfuse.softmax(x, y=board[:, 5:25])
        near(board[:, 5:25], wanted)
        self.assertTrue((board[:, :5] == 9).all() and (board[:, 25:] == 9).all())
        mean = np.empty(4, np.float32)
        self.assertIs(kfuse.layer_norm(x, mean=mean).mean, mean)
        near(mean, x.astype(float).mean(-1))

    def test_anything_with_dlpack(self):
        class Other:
            def __init__(self, array):
                self.array = array

            def __dlpack_device__(self):
                return self.array.__dlpack_device__()

            def __dlpack__(self, **named):
                return self.array.__dlpack__(**named)

        other = Other(normal(4, 20))
        y = kfuse.softmax(other)
        self.assertIsInstance(y, np.ndarray)
        wanted = softmax(other.array.astype(float))
        near(y, wanted)
        board = np.full((4, 50), 9, np.float32)  # NumPy's own from_dlpack() may say that nobody writes there
        for array in (np.empty_like(y), board[:, 5:25]):
            place = Other(array)
            self.assertIs(kfuse.softmax(other, out=place), place)
            near(array, wanted)
        self.assertTrue((board[:, :5] == 9).all() and (board[:, 25:] == 9).all())
        with self.assertRaisesRegex(kfuse.InvalidError, "negative"):
            kfuse.softmax(Other(normal(4, 20)[:, ::-1]))

    def test_in_place(self):
        x = normal(4, 20)
        wanted = softmax(x.astype(float))
        records = next(op for op in _table.OPS if op.name == "softmax").records
        records.clear()
        self.assertIs(kfuse.softmax(x, out=x), x)
        near(x, wanted)
        (record,) = records.values()
        self.assertEqual(record.operands[0].buffer, record.operands[1].buffer)

    def test_large_staging_is_given_back(self):
        x = normal(3, 1 << 23)
        near(kfuse.softmax(x), softmax(x.astype(float)))
        held = [room for _, room in _devices.host_device().buffers.values()]
        self.assertTrue(held and max(held) <= _devices.KEEP_BYTES)

    def test_staging_is_given_back_after_a_failure(self):
        """Mistake: memory that a call that failed keeps for good."""
        x = normal(3, 1 << 23)
        with self.assertRaises(kfuse.InvalidError):
            kfuse.layer_norm(x, normal(21))
        held = [room for _, room in _devices.host_device().buffers.values()]
        self.assertLessEqual(max(held, default=0), _devices.KEEP_BYTES)

    def test_overlaps_are_refused(self):
        """Mistakes: results that overwrite each other; neighbours in the same rows taken for an overlap."""
        x, board = normal(4, 20), normal(5, 50)
        for one, other in ((board[:4, :20], board[1:, :20]), (board[:4, :20], board[:4, 19:39])):
            with self.assertRaisesRegex(kfuse.InvalidError, "'y' overlaps 'x'"):
                kfuse.softmax(one, out=other)
        line = np.empty(5, np.float32)
        with self.assertRaisesRegex(kfuse.InvalidError, "'rstd' overlaps 'mean'"):
            kfuse.layer_norm(x, mean=line[:4], rstd=line[1:])
        left, right = board[:4, :20], board[:4, 20:40]
        wanted = softmax(left.astype(float))
        near(kfuse.softmax(left, out=right), wanted)
        column = normal(4, 1)
        again = np.lib.stride_tricks.as_strided(column, (4, 1), (4, 400))
        near(kfuse.softmax(column, out=again), np.ones((4, 1)))


if __name__ == "__main__":
    unittest.main()
