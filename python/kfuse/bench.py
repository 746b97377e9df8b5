"""Host time of a call whose exec is ready, kernels of a few microseconds left to run behind, and of the first call of a
process: python -m kfuse.bench

On torch's CUDA device where there is one; else the same way through the null backend, whose launches do nothing.
SPDX-License-Identifier: Apache-2.0"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time

import torch

import kfuse

from . import _devices
from . import torch as own

SAMPLES, CALLS = 15, 500

# In a process of its own: what `import kfuse` and a first result take there.
FIRST = """
{setup}
import time
start = time.perf_counter()
import kfuse
kfuse.softmax(x)
{wait}
print(time.perf_counter() - start)
"""


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


def first_result(setup: str, wait: str = "") -> float | None:
    """Seconds, the kernels compiled by an earlier process; None where it fails."""
    code = FIRST.format(setup=setup, wait=wait)
    for _ in range(2):
        run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
        if run.returncode:
            print(run.stderr.strip().splitlines()[-1], file=sys.stderr)
            return None
    return float(run.stdout)


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
    print("import kfuse and a first result, kernels compiled before")
    ways = {"NumPy, on the OpenCL device": ("import numpy; x = numpy.ones((2, 64), 'float32')", "")}
    if device == "cuda":
        sync = "torch.cuda.synchronize()"
        ways["torch, its CUDA context there"] = (f"import torch; x = torch.ones(2, 64, device='cuda'); {sync}", sync)
    for name, code in ways.items():
        seconds = first_result(*code)
        if seconds is not None:
            print(f"  {name:32} {seconds:6.3f} s")


if __name__ == "__main__":
    main()
