"""kfuse on OpenCL: a process of its own, `kfuse bench`, by the same protocol, while this one idles.
SPDX-License-Identifier: Apache-2.0"""

import json
import os
import shutil
import subprocess
import tempfile

from kfuse_lib import newest_build

NAME = "kfuse_opencl"
SECONDS = 240
KEPT = ("KFUSE_NVRTC",)


def find_command(root):
    """KFUSE_COMMAND, else the newest build of this tree, else what PATH has."""
    return os.environ.get("KFUSE_COMMAND") or newest_build(root, "kfuse", "bin/kfuse") or shutil.which("kfuse") or ""


def environment():
    """Without the twins of kfuse's own options."""
    return {name: value for name, value in os.environ.items() if not name.startswith("KFUSE_") or name in KEPT}


def arguments(command, case, samples, device, rows):
    line = [command, "bench", case.op.kfuse_name, "--backend=opencl", f"--dtype={case.dtype}",
            f"--shape={'x'.join(map(str, case.shape))}", "-q", "-o", f"jsonl:{rows}"]
    line += [f"--with={case.op.options or 'none'}"] if case.op.options or case.op.name == "cross_entropy" else []
    line += [f"--attr={name}={value}" for name, value in case.op.attributes.items()]
    line += [f"--samples={samples}"] if samples else []
    return line + ([f"--device={device}"] if device else [])


def bench(command, case, samples, device):
    """(row of the fastest fused variant, reason): one of them is None. Rows are `kfuse bench`'s own."""
    with tempfile.TemporaryDirectory() as folder:
        rows = os.path.join(folder, "rows.jsonl")
        try:
            done = subprocess.run(arguments(command, case, samples, device, rows), env=environment(), text=True,
                                  stdin=subprocess.DEVNULL, capture_output=True, timeout=SECONDS, check=False)
        except subprocess.TimeoutExpired:
            return None, f"kfuse bench took more than {SECONDS} s"
        except OSError as error:
            return None, f"kfuse bench does not start: {error}"
        found = read_rows(rows)
        timed = [row for row in found if row.get("variant") != "unfused" and (row.get("time_ns") or {}).get("median")]
        if timed:
            return min(timed, key=lambda row: row["time_ns"]["median"]), None
        reasons = [row["reason"] for row in found if row.get("reason")]
        lines = (done.stderr or "").strip().splitlines()
        return None, (reasons or lines or [f"kfuse bench ended with {done.returncode} and no row"])[-1]


def read_rows(path):
    try:
        with open(path, encoding="utf-8") as file:
            records = [json.loads(line) for line in file if line.strip()]
    except (OSError, ValueError):
        return []
    return [record for record in records if record.get("record") == "result"]
