"""The clock. On a GPU a provider's calls over all sets of tensors are captured into one CUDA graph; a sample replays
it twice, the first time untimed, and reads the events around the second: no host, no Python, nothing of another
provider in the cache. Providers take turns, sample by sample. On a CPU a sample is one call, by the host's clock.
SPDX-License-Identifier: Apache-2.0"""

import gc
import math
import statistics
import time

from provider import Call

LEAST_CALLS = 20
LEAST_SECONDS = 1e-3
HOST_SECONDS = 20e-3      # of a sample by the host's clock on a GPU: its end costs tens of microseconds
MOST_CALLS = 4000
GPU_SAMPLES = 9
CPU_SAMPLES = 11


def band(values):
    """Median and the 20 and 80 % points, interpolated."""
    ordered = sorted(values)

    def point(share):
        place = share * (len(ordered) - 1)
        low = math.floor(place)
        high = min(low + 1, len(ordered) - 1)
        return ordered[low] + (ordered[high] - ordered[low]) * (place - low)

    return statistics.median(ordered), point(0.2), point(0.8)


class Pool:
    """Memory that graphs use one after the other: what one allocates itself the next one uses again. torch gives it
    up with the last graph that uses it; a small one of its own keeps it."""

    def __init__(self, side):
        torch = side.module
        self.handle = torch.cuda.graph_pool_handle()
        self.keeper, value = torch.cuda.CUDAGraph(), torch.zeros(1, device=side.device)
        torch.cuda.synchronize()
        self.keeper.capture_begin(pool=self.handle, capture_error_mode="thread_local")
        value.zero_()
        self.keeper.capture_end()


class GraphLane:
    """A provider whose work can be captured."""
    path = "graph"

    def __init__(self, side, call, sets, pool):
        self.side, self.call, self.sets, self.pool = side, call, sets, pool
        self.torch = side.module
        self.first, self.last = (self.torch.cuda.Event(enable_timing=True) for _ in range(2))
        self.graph, self.calls, self.ring = None, 0, None
        self.capture(self.whole_walks(LEAST_CALLS))
        seconds = self.replay()
        if seconds * self.calls < LEAST_SECONDS:
            self.capture(self.whole_walks(math.ceil(1.1 * LEAST_SECONDS / max(seconds, 1e-7))))
            self.replay()

    def whole_walks(self, calls):
        """A multiple of the sets: every batch meets each of them equally often."""
        walks = max(1, math.ceil(calls / len(self.sets)))
        return len(self.sets) * max(1, min(walks, MOST_CALLS // len(self.sets)))

    def capture(self, calls):
        self.ring = self.graph = None
        graph = self.torch.cuda.CUDAGraph()
        ring = [None] * len(self.sets)  # what a provider allocates itself rotates as its inputs do
        self.torch.cuda.synchronize()
        gc.disable()  # no destructor of others inside a capture
        try:
            graph.capture_begin(pool=self.pool.handle, capture_error_mode="thread_local")
            try:
                for i in range(calls):
                    ring[i % len(ring)] = self.call.run(self.sets[i % len(ring)])
            finally:
                graph.capture_end()
        finally:
            gc.enable()
        self.graph, self.calls, self.ring = graph, calls, ring

    def replay(self):
        self.first.record()
        self.graph.replay()
        self.last.record()
        self.torch.cuda.synchronize()
        return self.first.elapsed_time(self.last) * 1e-3 / self.calls

    def left_behind(self):
        """What a replay leaves of set 0, to be checked before the next provider is captured."""
        self.replay()
        returned, self.ring = self.ring[0], None
        return returned

    def sample(self):
        self.graph.replay()
        return self.replay()


class HostLane:
    """By the host's clock: a CPU, or a provider on a GPU that cannot be captured, all sets in one call of it."""
    path = "host"

    def __init__(self, side, call, sets):
        self.side, self.call, self.sets, self.repeats = side, call, sets, 1
        self.calls = each = call.calls or len(sets)
        self.batch = call.batch or (lambda: [call.run(data) for data in sets])
        self.batch()
        if side.gpu:
            self.repeats = max(1, math.ceil(HOST_SECONDS / max(self.once(), 1e-6)))
            self.calls = each * self.repeats

    def once(self):
        self.side.wait()
        start = time.perf_counter()
        for _ in range(self.repeats):
            self.batch()
        if self.call.finish:
            self.call.finish()
        return time.perf_counter() - start

    def left_behind(self):
        return self.call.left() if self.call.left else self.call.run(self.sets[0])

    def sample(self):
        return self.once() / self.calls


def fastest(side, runs, sets):
    """Of several ways to do the same the one whose graph is fastest; (place, run). One that fails is none."""
    if len(runs) == 1 or not side.gpu:
        return 0, runs[0]
    times, reason = [], None
    for run in runs:
        try:
            run(sets[0])
            lane = GraphLane(side, Call(run), sets, Pool(side))
            times.append(min(lane.sample() for _ in range(3)))
        except Exception as error:  # pylint: disable=broad-except  # too many registers, too much shared memory
            times.append(math.inf)
            reason = error
    place = min(range(len(runs)), key=times.__getitem__)
    if times[place] == math.inf:
        raise reason
    return place, runs[place]


def take_samples(lanes, count):
    """{name: seconds}, in turns."""
    samples = {name: [] for name in lanes}
    for _ in range(count):
        for name, lane in lanes.items():
            samples[name].append(lane.sample())
    return samples


def ratio(ours, theirs):
    """Median and band of the quotients of samples taken in the same turn."""
    return band([a / b for a, b in zip(ours, theirs)])
