"""A measuring process with providers of the tests' own, on NumPy. Mistakes caught: a result that is right when it is
judged and wrong when it is timed, a row without its division by the calls, one provider that costs the others their
rows. SPDX-License-Identifier: Apache-2.0"""

import io
import json
import os
import sys
import types
import unittest
from unittest import mock

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from rig import HAS_NUMPY, Clock

# isort: split
import provider
import registry
import sides
import timing
import worker

SHAPE = [4, 8]


def softmax(data):
    import numpy

    power = numpy.exp(data["x"].astype(float))
    return (power / power.sum(-1, keepdims=True)).astype(numpy.float32)


def peer(name, run, **named):
    return provider.Peer(name, name, lambda world: "1", lambda world, case, sets: provider.Call(run, **named))


def rows_of(*peers, device="numpy"):
    """{peer: row} of one case."""
    job = {
        "cases": [{"op": "softmax", "dtype": "f32", "shape": SHAPE}],
        "device": device,
        "samples": 5,
        "process": 1,
        "peers": [one.name for one in peers],
        "first": 0,
        "skip": {},
        "gone": {},
        "deadline": 0,
        "over": "",
        "library": "/nowhere/libkfuse.so",
        "command": "",
    }
    rows = io.StringIO()
    with mock.patch.object(registry, "peers", lambda: list(peers)):
        worker.Worker(job, rows).run()
    found = [json.loads(line) for line in rows.getvalue().splitlines()]
    return {row["peer"]: row for row in found if row.get("record") == "peer"}


class Late:
    """Right in its first calls, and then no more: `left` is what it does from then on."""

    def __init__(self, good, then):
        self.good, self.then, self.calls = good, then, 0

    def __call__(self, data):
        self.calls += 1
        if self.calls > self.good:
            return self.then(data)
        data["y"][...] = softmax(data)
        return None


def spoilt(data):
    data["y"][...] = softmax(data)
    data["y"][-1, -1] += 0.01


@unittest.skipUnless(HAS_NUMPY, "there is no NumPy")
class Rows(unittest.TestCase):
    def test_right_all_the_time(self):
        row = rows_of(peer("good", softmax))["good"]
        self.assertEqual((row["status"], row["verified"], row["checked"]), ("ok", "whole", 32))

    def test_wrong_at_once_and_later(self):
        # calls before the lane: the last set, then set 0; in it: one to warm up; then what is looked at
        for good in (0, 1, 3):
            for then in (spoilt, lambda data: data["y"].fill(float("nan"))):
                rows = rows_of(peer("late", Late(good, then)), peer("good", softmax))
                self.assertEqual(rows["late"]["status"], "wrong", good)
                self.assertIn("'y' is wrong", rows["late"]["reason"])
                self.assertIsNone(rows["late"]["time_ns"])
                self.assertEqual(rows["good"]["status"], "ok")

    def test_one_that_does_nothing_any_more(self):
        row = rows_of(peer("lazy", Late(3, lambda data: None)))["lazy"]
        self.assertEqual(row["status"], "wrong")

    def test_what_batches_left_is_what_counts(self):
        left = {"y": None}

        def run(data):
            left["y"] = softmax(data)
            return left["y"]

        def batch():
            left["y"] = left["y"] * 2

        row = rows_of(peer("batches", run, batch=batch, calls=7, left=lambda: left["y"]))["batches"]
        self.assertEqual(row["status"], "wrong")

    def test_one_that_fails_costs_only_itself(self):
        def broken(data):
            raise ValueError("no such thing")

        rows = rows_of(peer("broken", broken), peer("good", softmax))
        self.assertEqual((rows["broken"]["status"], rows["broken"]["reason"]), ("failed", "ValueError: no such thing"))
        self.assertEqual(rows["good"]["status"], "ok")

    def test_one_that_has_no_such_op_is_not_asked(self):
        def build(world, case, sets):
            raise AttributeError("softmax_fwd")

        one = provider.Peer("other", "Other", lambda world: "1", build, ops=("swiglu",))
        row = rows_of(one)["other"]
        self.assertEqual((row["status"], row["reason"]), ("unsupported", "Other has no softmax"))

    def test_times_are_of_one_call_in_ns(self):
        clock = Clock()

        def slow(data):
            clock.pass_by(2e-6)
            return softmax(data)

        def batch():
            clock.pass_by(10 * 3e-6)

        right = {}

        def run(data):
            right["y"] = softmax(data)
            return right["y"]

        with mock.patch.object(timing, "time", clock.module()):
            rows = rows_of(peer("slow", slow), peer("ten", run, batch=batch, calls=10, left=lambda: right["y"]))
        for name, nanoseconds, calls in (("slow", 2000, 1), ("ten", 3000, 10)):
            row = rows[name]
            self.assertEqual(row["launches_per_sample"], calls)
            self.assertEqual(len(row["samples_ns"]), 5)
            for value in row["samples_ns"] + [row["time_ns"][key] for key in ("median", "p20", "p80", "min")]:
                self.assertAlmostEqual(value, nanoseconds, places=3)


class WithoutTensors(unittest.TestCase):
    def test_the_reason_is_everybodys(self):
        def no_numpy():
            raise ModuleNotFoundError("No module named 'numpy'", name="numpy")

        def half_numpy():
            raise ModuleNotFoundError("No module named 'secrets'", name="secrets")

        for broken, reason in (
            (no_numpy, "NumPy is not installed"),
            (half_numpy, "NumPy does not import: No module named 'secrets'"),
        ):
            job = types.MappingProxyType({"device": "numpy", "peers": ["numpy", "jax"]})
            rows = io.StringIO()
            with mock.patch.object(sides, "NumpySide", broken):
                worker.Worker(job, rows).describe()
            told = json.loads(rows.getvalue())["peers"]
            self.assertEqual(told, {"numpy": {"missing": reason}, "jax": {"missing": reason}})


if __name__ == "__main__":
    unittest.main()
