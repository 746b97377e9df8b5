#!/usr/bin/env python3
"""kfuse beside what a user would pick instead: PyTorch, torch.compile, Triton, JAX, QuACK, Liger, ... on the same
tensors in one process, interleaved, with cold caches, each checked before it is timed.

    python3 bench/peers/run.py softmax layer_norm [--shape 4096x4096,...] [--dtype f32,bf16] [-o jsonl:FILE]

The measuring happens in fresh processes (worker.py): one that a peer takes down with it is started again without that
peer. See README.md beside this file. SPDX-License-Identifier: Apache-2.0"""

import datetime
import json
import os
import platform
import re
import signal
import subprocess
import sys
import tempfile
import time

sys.dont_write_bytecode = True

# pylint: disable=wrong-import-position
import kfuse_cmd
import kfuse_lib
import ops
import options
import registry
import report

HERE = os.path.dirname(os.path.abspath(__file__))
ROOT = os.path.dirname(os.path.dirname(HERE))
SCHEMA = "1.0"
MOST_RESTARTS = 40
OVER = "the time of --budget was over"


class NotHere(Exception):
    """No kfuse, or no device of the kind that was named."""


def choose_device(named):
    """Asked in a child: this process loads neither torch nor a driver."""
    if named != "auto":
        return named
    script = "import torch; print('cuda' if torch.cuda.is_available() else 'cpu')"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    return done.stdout.strip() if done.returncode == 0 and done.stdout.strip() in ("cuda", "cpu") else "numpy"


class Process:
    """One fresh process over all cases, restarted without whoever took it down."""

    def __init__(self, o, cases, device, peers, number, folder, tell):
        self.o, self.tell, self.number = o, tell, number
        self.job = {"cases": [case.as_json() for case in cases], "device": device, "peers": peers,
                    "samples": o.samples, "process": number, "first": 0, "skip": {}, "gone": {},
                    "deadline": o.deadline, "over": OVER,
                    "library": kfuse_lib.find_library(ROOT), "command": kfuse_cmd.find_command(ROOT)}
        self.path = os.path.join(folder, f"rows-{number}-{time.monotonic_ns()}.jsonl")
        self.described, self.rows, self.failures = None, [], []
        self.pending, self.probing = [], None

    def run(self, only_describe=False):
        self.job["only_describe"] = only_describe
        for _ in range(MOST_RESTARTS):
            open(self.path, "w", encoding="utf-8").close()
            try:
                code, words = self.start()
            finally:
                at, peer, done = self.read()
            if code == 0:
                return
            reason = f"took the process down: {words or f'it ended with {code}'}"
            if at is None and self.probing is None:
                raise NotHere(words or f"the measuring process ended with {code} before it began")
            if at is None:
                self.job["gone"][self.probing] = reason
                continue
            self.after_crash(at, peer, done, reason)
            if self.job["first"] >= len(self.job["cases"]):
                return
        raise NotHere(f"{MOST_RESTARTS} restarts were not enough")

    def start(self):
        job = self.path + ".job"
        with open(job, "w", encoding="utf-8") as file:
            json.dump(self.job, file)
        with open(self.path + ".err", "w+", encoding="utf-8", errors="replace") as errors:
            child = subprocess.Popen([sys.executable, "-B", os.path.join(HERE, "worker.py"), job, self.path],
                                     stdin=subprocess.DEVNULL, stdout=errors, stderr=errors, start_new_session=True)
            try:
                words = self.watch(child)
            finally:
                if child.poll() is None:
                    os.killpg(child.pid, signal.SIGKILL)  # its own group: compilers and kfuse, too
                    child.wait()
            errors.seek(0)
            lines = errors.read().strip().splitlines()
            if os.environ.get("KFUSE_PEERS_TRACE"):
                print("\n".join(lines), file=sys.stderr)
            return child.returncode, words or (lines[-1][:300] if lines else "")

    def watch(self, child):
        """Waits; a child that says nothing for too long is ended."""
        size, since = -1, time.monotonic()
        while child.poll() is None:
            try:
                child.wait(0.2)
            except subprocess.TimeoutExpired:
                pass
            now = os.path.getsize(self.path)
            if now != size:
                size, since = now, time.monotonic()
                self.progress()
            elif time.monotonic() - since > self.o.patience:
                return f"no progress for {self.o.patience} s"
        return ""

    def progress(self):
        if not self.tell:
            return
        with open(self.path, encoding="utf-8") as file:
            lines = [line for line in file.read().splitlines() if line.startswith('{"at"')]
        if lines:
            at = json.loads(lines[-1])
            case = self.job["cases"][at["at"]]
            print(f"\r\033[K{self.number}: {case['op']} {case['dtype']} {'x'.join(map(str, case['shape']))} "
                  f"{at['peer']}", end="", file=sys.stderr, flush=True)

    def read(self):
        """Takes the rows of a process that ended; (case, peer) where it stood, and the cases it finished. Rows of a
        case that was not finished are of no use but for what failed in it."""
        at, peer, done, pending, self.probing = None, "", set(), [], None
        with open(self.path, encoding="utf-8") as file:
            for line in file:
                try:
                    record = json.loads(line)
                except ValueError:
                    continue  # cut short by the crash
                if "at" in record:
                    at, peer = record["at"], record["peer"]
                elif "probing" in record:
                    self.probing = record["probing"]
                elif "describe" in record:
                    self.described = record
                elif "case_failed" in record:
                    self.failures.append((record["case_failed"], record["reason"]))
                elif "done" in record:
                    done.add(record["done"])
                    self.rows += pending
                    pending = []
                else:
                    pending.append(record)
        self.pending = pending
        return at, peer, done

    def after_crash(self, at, peer, done, reason):
        if at in done:
            at, peer = at + 1, ""
        elif peer:
            self.job["skip"].setdefault(str(at), {})[peer] = reason
            for row in self.pending:  # those that failed before stay as they were
                if row["status"] == "failed":
                    self.job["skip"][str(at)].setdefault(row["peer"], row["reason"])
        elif any(row["status"] == "failed" for row in self.pending):
            for row in self.pending:
                if row["status"] == "failed":
                    self.job["skip"].setdefault(str(at), {})[row["peer"]] = row["reason"]
        else:
            self.failures.append((at, reason))
            at += 1
        self.job["first"] = at


def git_state():
    """Of the tree; a copy without its history is told in KFUSE_GIT."""
    def ask(*arguments):
        done = subprocess.run(["git", "-C", ROOT, *arguments], capture_output=True, text=True, check=False)
        return done.stdout.strip() if done.returncode == 0 else ""
    try:
        commit = ask("rev-parse", "--short=12", "HEAD")
        dirty = bool(ask("status", "--porcelain")) if commit else None
        return {"git": commit or os.environ.get("KFUSE_GIT"), "dirty": dirty}
    except OSError:
        return {"git": None, "dirty": None}


def context(argv, described, device, o):
    now = datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
    peers = dict(described["peers"])
    return {"record": "run", "schema_version": SCHEMA, "context": {
        # of absolute paths the file's name: folders of the machine that measured tell nobody anything
        "argv": ["run.py"] + [re.sub("(^|[:=])/(.*/)?", r"\1", word) for word in argv], "date": now,
        "host": platform.node(), "os": platform.platform(),
        "python": platform.python_version(), "kfuse": git_state(), "device": described["describe"], "peers": peers,
        "tensors": described["side"], "processes": o.processes,
        "protocol": "one process, CUDA graphs over rotating sets, cold L2, interleaved" if device == "cuda"
        else "host clock, warm, interleaved, on a CPU: proves nothing about GPUs"}}


class Output:
    """JSON Lines files: complete up to the last record, whatever happens."""

    def __init__(self, paths):
        self.files = [open(path, "w", encoding="utf-8") for path in paths]

    def write(self, *records):
        for file in self.files:
            for record in records:
                file.write(json.dumps(record, sort_keys=True, separators=(",", ":")) + "\n")
            file.flush()

    def close(self, code):
        self.write({"record": "end", "exit": code})
        for file in self.files:
            file.close()


def list_all(o, device, folder):
    process = Process(o, [], device, registry.names(), 0, folder, False)
    process.run(only_describe=True)
    print("ops:   " + " ".join(ops.BY_NAME))
    for name in registry.names():
        found = process.described["peers"].get(name, {})
        state = found.get("version") or f"not here: {found.get('missing', '?')}"
        print(f"{name:17} {registry.what(name)}: {state}")
    return 0


def measure(o, cases, device, peers, folder, output, argv):
    """All processes; writes rows as they come. Returns (rows, failures, what peers there are)."""
    rows, failures, described = [], [], None
    for number in range(1, o.processes + 1):
        process = Process(o, cases, device, peers, number, folder, sys.stderr.isatty())
        try:
            process.run()
        finally:  # interrupted: the cases that were finished are kept
            if described is None and process.described:
                described = process.described
                output.write(context(argv, described, device, o))
            output.write(*process.rows)
        rows += process.rows
        failures += [(cases[index].text, reason) for index, reason in process.failures]
    return rows, failures, described


def summaries(cases, rows, device):
    found = []
    for case in cases:
        mine = [row for row in rows if report.key(row) == (case.op.name, case.dtype, tuple(case.shape))]
        if mine:
            found.append(report.summarise(mine, device == "cuda"))
    return found


def measure_again(o, cases, device, peers, folder, output, rows):
    """Cases whose processes disagree, in as many fresh ones; the new rows take the place of the old."""
    for _ in range(o.again if o.processes > 1 else 0):
        unclear = {(r["form"], r["dtype"], tuple(r["shape"])) for r in summaries(cases, rows, device)
                   if r["verdict"] == "UNCLEAR"}
        mine = [case for case in cases if (case.op.name, case.dtype, tuple(case.shape)) in unclear]
        if not mine or o.deadline and time.time() > o.deadline:
            break
        fresh = []
        for number in range(1, o.processes + 1):
            process = Process(o, mine, device, peers, number, folder, sys.stderr.isatty())
            process.run()
            fresh += [{**row, "again": True} for row in process.rows]
        output.write(*fresh)
        rows = [row for row in rows if report.key(row) not in unclear] + fresh
    return rows


def bad(row):
    """A wrong result of anybody, or kfuse failing; that another peer cannot do a case is its own business."""
    return row["status"] == "wrong" or row["status"] == "failed" and row["peer"].startswith("kfuse")


def show(records, rows, failures, described, device):
    if sys.stderr.isatty():
        print("\r\033[K", end="", file=sys.stderr)
    if device != "cuda":
        print("On a CPU, warm, by the host's clock: proves nothing about GPUs.")
    print(report.table(records))
    for line in report.notes(rows, described["peers"]) + [f"{case}: not measured: {why}" for case, why in failures]:
        print(line)


def interrupt(*_):
    raise KeyboardInterrupt


def main(argv):
    signal.signal(signal.SIGINT, interrupt)
    signal.signal(signal.SIGTERM, interrupt)
    try:
        o = options.parse(argv)
    except options.Wrong as wrong:
        options.complain(wrong)
        return 2
    o.deadline = time.time() + o.budget if o.budget else 0
    device = choose_device(o.device)
    cases = options.cases(o, device == "cuda")
    peers = options.chosen_peers(o.peers, device == "cuda")
    if device == "numpy" and any(case.dtype == "bf16" for case in cases):
        options.complain("bf16 needs torch: NumPy has no such type")
        return 2
    code, output = 1, None
    with tempfile.TemporaryDirectory() as folder:
        try:
            if o.list:
                return list_all(o, device, folder)
            output = Output(o.files)
            rows, failures, described = measure(o, cases, device, peers, folder, output, argv)
            rows = measure_again(o, cases, device, peers, folder, output, rows)
            records = summaries(cases, rows, device)
            output.write(*records)
            show(records, rows, failures, described, device)
            code = 1 if any(why != OVER for _, why in failures) or any(bad(row) for row in rows) else 0
        except NotHere as error:
            options.complain(error)
            code = 3
        except KeyboardInterrupt:
            code = 130
        except OSError as error:
            options.complain(error)
            code = 5
        finally:
            if output:
                output.close(code)
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
