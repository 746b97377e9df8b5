"""Host time of a call whose exec is ready, kernels of a few microseconds left to run behind: python -m kfuse.bench

On torch's CUDA device where there is one; else the same way through the null backend, whose launches do nothing.
SPDX-License-Identifier: Apache-2.0"""

from __future__ import annotations

import statistics
import time

import torch

import kfuse

from . import _devices
from . import torch as own

SAMPLES, CALLS = 15, 500


def measure(function, wait) -> tuple[float, float, float]:
    """Median, 20 % and 80 % of samples, in seconds per call."""
    times = []
    for _ in range(SAMPLES + 1):
        wait()
        start = time.perf_counter()
        for _ in range(CALLS):
            function()
        times.append((time.perf_counter() - start) / CALLS)
        wait()
    times = sorted(times[1:])
    return statistics.median(times), times[SAMPLES // 5], times[-1 - SAMPLES // 5]


def main() -> None:
    if torch.cuda.is_available():
        device, wait, where = "cuda", torch.cuda.synchronize, torch.cuda.get_device_name()
    else:
        own.current_stream = lambda index: _devices.BASE
        _devices.direct_backend, _devices.pretend = b"null", True
        device, wait, where = "cpu", lambda: None, "the null backend: no launch is made"
    x, y, weight = (torch.randn(*shape, device=device) for shape in ((2, 64), (2, 64), (64,)))
    print(f"host time per call, {where}")
    for name, function in (
        ("softmax(x)", lambda: kfuse.softmax(x)),
        ("softmax(x, out=y)", lambda: kfuse.softmax(x, out=y)),
        ("layer_norm(x, weight, weight)", lambda: kfuse.layer_norm(x, weight, weight)),
        ("add_rms_norm(x, y, weight)", lambda: kfuse.add_rms_norm(x, y, weight)),
        ("torch: empty_like(x)", lambda: torch.empty_like(x)),
        ("torch: softmax(x, -1)", lambda: torch.softmax(x, -1)),
    ):
        middle, low, high = (1e6 * seconds for seconds in measure(function, wait))
        print(f"  {name:32} {middle:6.2f} µs  ({low:.2f} to {high:.2f})")


if __name__ == "__main__":
    main()
