"""The command line: every mistake is one sentence and exit code 2. SPDX-License-Identifier: Apache-2.0"""

import argparse
import difflib
import re
import sys

import ops
import registry

CPU_SHAPES = {"elementwise": "4096", "elementwise_chain": "4096", "rope": "8x2x16"}


class Wrong(Exception):
    """An argument that cannot be: one sentence."""


class Parser(argparse.ArgumentParser):
    """argparse without its two-line usage."""

    def error(self, message):
        raise Wrong(message)


def nearest(kind, word, choices):
    close = difflib.get_close_matches(word, choices, 1)
    hint = f"did you mean '{close[0]}'?" if close else f"choices: {', '.join(choices)}"
    return Wrong(f"unknown {kind} '{word}'; {hint}")


def words(text, option):
    parts = text.split(",")
    if not all(parts):
        raise Wrong(f"{option}={text} has an empty place")
    return parts


def shape(text):
    if not re.fullmatch(r"[1-9][0-9]*(x[1-9][0-9]*)*", text):
        raise Wrong(f"--shape takes sizes such as 4096x16384, not '{text}'")
    return [int(size) for size in text.split("x")]


def whole(text, option, least, most):
    if not text.isdigit() or not least <= int(text) <= most:
        raise Wrong(f"{option}={text} is not a whole number from {least} to {most}")
    return int(text)


def parser():
    p = Parser(prog="run.py", description="kfuse and its peers on the same tensors, interleaved.",
               epilog="exit: 0 done and right; 1 a result was wrong, or kfuse failed; 2 usage; 3 the device is "
                      "not here; 5 a file; 130 interrupted")
    p.add_argument("ops", nargs="*", metavar="OP", help="softmax, layer_norm, ...; all; see --list")
    p.add_argument("--shape", help="4096x16384,...; without: the shapes of the anchors (small ones on a CPU)")
    p.add_argument("--dtype", help="f32,f16,bf16")
    p.add_argument("--peers", help="who takes part; -NAME leaves one out (write --peers=-jax)")
    p.add_argument("--list", action="store_true", help="ops and peers, and why a peer is not here")
    p.add_argument("--device", choices=("auto", "cuda", "cpu", "numpy"), default="auto",
                   help="where the tensors are; auto: a GPU if torch has one, else torch's CPU, else NumPy")
    p.add_argument("--samples", help="samples per provider (9; 11 on a CPU)")
    p.add_argument("--processes", default="1", help="fresh processes; ratios are medians over them")
    p.add_argument("--again", default="1", help="how often cases whose processes disagree are measured again")
    p.add_argument("--patience", default="300", help="seconds without progress after which a peer is given up")
    p.add_argument("--budget", help="seconds after which no further case is begun")
    p.add_argument("-o", dest="output", action="append", default=[], metavar="jsonl:FILE",
                   help="rows as JSON Lines; the table goes to stdout all the same")
    return p


def chosen_peers(text, gpu):
    """None: the usual ones."""
    if not text:
        return registry.usual(gpu)
    parts = words(text, "--peers")
    for part in parts:
        if part.lstrip("-") not in registry.names():
            raise nearest("peer", part.lstrip("-"), registry.names())
    left_out = [part[1:] for part in parts if part.startswith("-")]
    named = [part for part in parts if not part.startswith("-")] or registry.usual(gpu)
    return [name for name in registry.names() if name in named and name not in left_out]


def parse(argv):
    """The options; `ops`, `dtypes`, `shapes`, numbers and `files` are checked, what depends on the device is not."""
    o = parser().parse_args(argv)
    o.samples = whole(o.samples, "--samples", 3, 99) if o.samples else 0
    o.processes = whole(o.processes, "--processes", 1, 20)
    o.again = whole(o.again, "--again", 0, 9)
    o.patience = whole(o.patience, "--patience", 1, 3600)
    o.budget = whole(o.budget, "--budget", 1, 86400) if o.budget else 0
    o.dtypes = words(o.dtype, "--dtype") if o.dtype is not None else None
    for dtype in o.dtypes or []:
        if dtype not in ops.DTYPES:
            raise nearest("dtype", dtype, ops.DTYPES)
    o.shapes = [shape(text) for text in words(o.shape, "--shape")] if o.shape is not None else None
    for output in o.output:
        if not re.fullmatch(r"jsonl:.+", output):
            raise Wrong(f"-o takes jsonl:FILE, not '{output}'")
    o.files = [output[len("jsonl:"):] for output in o.output]
    for name in o.ops:
        if name != "all" and name not in ops.BY_NAME:
            raise nearest("op", name, list(ops.BY_NAME))
    if "all" in o.ops:
        o.ops = list(ops.BY_NAME)
    if not o.ops and not o.list:
        raise Wrong(f"name an op, or all: {', '.join(ops.BY_NAME)}")
    chosen_peers(o.peers, True)
    cases(o, True)
    return o


def cases(o, gpu):
    """[Case], each once, in the order asked for."""
    found = []
    try:
        for name in o.ops:
            if o.shapes:
                found += [ops.make_case(name, dtype, size) for size in o.shapes
                          for dtype in o.dtypes or (["f32", "bf16"] if gpu else ["f32"])]
            elif gpu:
                found += ops.anchor_cases(name, o.dtypes)
            else:
                found += [ops.make_case(name, dtype, shape(CPU_SHAPES.get(name, "64x256")))
                          for dtype in o.dtypes or ["f32"]]
    except ops.BadShape as bad:
        raise Wrong(str(bad)) from bad
    return list({case.text: case for case in found}.values())


def complain(message):
    print(f"run.py: {message}", file=sys.stderr)
