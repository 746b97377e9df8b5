"""The clock, on one that the tests wind. Mistakes caught: a time of several calls told as that of one, a first replay
that is timed, a batch that is too short or meets some sets more often. SPDX-License-Identifier: Apache-2.0"""

import os
import sys
import types
import unittest
from unittest import mock

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from rig import Clock

# isort: split
import timing
from provider import Call

SETS = [{"set": index} for index in range(3)]


class HostSide:
    def __init__(self, gpu):
        self.gpu = gpu

    def wait(self):
        pass


class FakeTorch:
    """Graphs that replay by moving the clock, by `seconds` per captured call."""

    def __init__(self, clock, seconds):
        outer, self.done, self.running = self, [], None
        self.seconds, self.captured = seconds, 0

        class Event:
            def __init__(self, **_):
                self.at = None

            def record(self):
                self.at = clock.now
                outer.done.append("record")

            def elapsed_time(self, other):
                return (other.at - self.at) * 1e3

        class CUDAGraph:
            def capture_begin(self, **_):
                outer.captured, self.calls = 0, 0

            def capture_end(self):
                self.calls = outer.captured

            def replay(self):
                outer.done.append("replay")
                clock.pass_by(outer.seconds * self.calls)

        self.cuda = types.SimpleNamespace(Event=Event, CUDAGraph=CUDAGraph, synchronize=lambda: None)

    def run(self, data):
        self.captured += 1
        return data["set"]


class Host(unittest.TestCase):
    def lane(self, gpu, seconds, **named):
        clock = Clock()
        self.enterContext(mock.patch.object(timing, "time", clock.module()))
        call = Call(lambda data: clock.pass_by(seconds), **named)
        if "batch" in named:
            call.batch = lambda: clock.pass_by(seconds * named["calls"])
        return timing.HostLane(HostSide(gpu), call, SETS)

    def enterContext(self, manager):  # Python 3.11 has it
        self.addCleanup(manager.__exit__, None, None, None)
        return manager.__enter__()

    def test_seconds_are_of_one_call(self):
        lane = self.lane(False, 1.0)
        self.assertEqual(lane.calls, 3)
        self.assertAlmostEqual(lane.sample(), 1.0)

    def test_a_batch_says_how_many_calls_it_is(self):
        lane = self.lane(False, 2.0, batch=True, calls=20)
        self.assertEqual(lane.calls, 20)
        self.assertAlmostEqual(lane.sample(), 2.0)

    def test_on_a_gpu_batches_are_repeated(self):
        lane = self.lane(True, 1e-3)
        self.assertEqual(lane.repeats, 7)  # 3 ms each, 20 ms at least
        self.assertEqual(lane.calls, 21)
        self.assertAlmostEqual(lane.sample(), 1e-3)

    def test_waiting_for_the_end_counts(self):
        clock = Clock()
        self.enterContext(mock.patch.object(timing, "time", clock.module()))
        lane = timing.HostLane(HostSide(False), Call(lambda data: None, finish=lambda: clock.pass_by(6.0)), SETS)
        self.assertAlmostEqual(lane.sample(), 2.0)


class Graphs(unittest.TestCase):
    def lane(self, seconds):
        self.torch = FakeTorch(Clock(), seconds)
        side = types.SimpleNamespace(module=self.torch)
        return timing.GraphLane(side, Call(self.torch.run), SETS, types.SimpleNamespace(handle=None))

    def test_seconds_are_of_one_call(self):
        for seconds in (1e-6, 7e-6, 1e-4, 1e-2):
            lane = self.lane(seconds)
            self.assertAlmostEqual(lane.sample(), seconds, delta=seconds * 1e-6)

    def test_batches_are_long_enough_and_whole_walks(self):
        for seconds in (1e-6, 7e-6, 1e-4, 1e-2):
            calls = self.lane(seconds).calls
            self.assertEqual(calls % len(SETS), 0)
            self.assertGreaterEqual(calls, 20)
            self.assertGreaterEqual(calls * seconds, 1e-3)
            self.assertEqual(calls, self.torch.captured)

    def test_the_first_replay_is_not_timed(self):
        lane = self.lane(1e-4)
        self.torch.done.clear()
        lane.sample()
        self.assertEqual(self.torch.done, ["replay", "record", "replay", "record"])

    def test_what_is_left_behind_is_of_a_replay_and_of_set_0(self):
        lane = self.lane(1e-4)
        self.torch.done.clear()
        self.assertEqual(lane.left_behind(), 0)
        self.assertIn("replay", self.torch.done)


class Numbers(unittest.TestCase):
    def test_bands(self):
        self.assertEqual(timing.band([5, 1, 4, 2, 3, 6]), (3.5, 2, 5))
        self.assertEqual(timing.band([7]), (7, 7, 7))
        self.assertEqual(timing.ratio([2, 9, 4], [1, 3, 4]), (2, 1.4, 2.6))

    def test_providers_take_turns(self):
        turns = []

        def lane(name):
            return types.SimpleNamespace(sample=lambda: turns.append(name) or len(turns))

        self.assertEqual(timing.take_samples({"a": lane("a"), "b": lane("b")}, 2), {"a": [1, 3], "b": [2, 4]})
        self.assertEqual(turns, ["a", "b", "a", "b"])


if __name__ == "__main__":
    unittest.main()
