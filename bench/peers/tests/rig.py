"""What the unit tests of bench/peers share. They need no GPU and no kfuse; those that need NumPy or torch are skipped
without. SPDX-License-Identifier: Apache-2.0"""

import importlib.util
import os
import sys
import types

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

HAS_NUMPY = importlib.util.find_spec("numpy") is not None
HAS_TORCH = importlib.util.find_spec("torch") is not None


class Clock:
    """Stands in for the module `time`: it goes on only where it is told to."""

    def __init__(self):
        self.now = 0.0

    def pass_by(self, seconds):
        self.now += seconds

    def module(self):
        return types.SimpleNamespace(perf_counter=lambda: self.now)


def peer_row(peer, process, samples, **more):
    """An "ok" row as the worker writes it, of samples in ns."""
    return {
        "record": "peer",
        "peer": peer,
        "process": process,
        "op": "softmax",
        "form": "softmax",
        "dtype": "bf16",
        "shape": [16, 32],
        "with": None,
        "device": "GPU",
        "cache": "cold",
        "status": "ok",
        "reason": None,
        "samples_ns": samples,
        "time_ns": {"median": sorted(samples)[len(samples) // 2]},
        **more,
    }
