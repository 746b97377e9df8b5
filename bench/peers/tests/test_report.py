"""Verdicts from rows. Mistakes caught: processes that disagree and get a verdict all the same, the mean or the last
process in place of the median, a limit of the wrong kind, a peer that failed and is passed over in silence, cases that
are measured again for nothing. SPDX-License-Identifier: Apache-2.0"""

import os
import sys
import types
import unittest
from unittest import mock

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from rig import peer_row

# isort: split
import report
import run

import ops


def rows(ours, best=(100, 100, 100), roof=95):
    """Three samples per process; `ours` and `best` are ns per process."""
    found = []
    for process, (mine, theirs) in enumerate(zip(ours, best), 1):
        found += [peer_row("kfuse_fused", process, [mine] * 3), peer_row("triton", process, [theirs] * 3)]
        found += [peer_row("roof_copy", process, [roof] * 3), peer_row("torch_fused", process, [500] * 3)]
    return found


class Summaries(unittest.TestCase):
    def verdict(self, *arguments, **named):
        return report.summarise(rows(*arguments, **named), True)["verdict"]

    def test_processes_that_disagree_are_unclear(self):
        self.assertEqual(self.verdict([90, 90, 93.1]), "UNCLEAR")
        self.assertEqual(self.verdict([93.1, 90, 90]), "UNCLEAR")
        self.assertEqual(self.verdict([90, 86.9, 90]), "UNCLEAR")
        self.assertEqual(self.verdict([200, 200, 207]), "UNCLEAR")

    def test_processes_that_agree_are_not(self):
        self.assertEqual(self.verdict([90, 90, 92.5]), "MET")
        self.assertEqual(self.verdict([200, 200, 205]), "MISSED")
        # times differ, the quotients do not
        self.assertEqual(self.verdict([90, 180, 270], (100, 200, 300)), "MET")

    def test_medians_over_processes(self):
        record = report.summarise(rows([90, 1000, 95], (100, 1000, 110)), True)
        self.assertEqual(record["medians_ns"]["kfuse_fused"], 95)
        self.assertEqual(record["medians_ns"]["triton"], 110)
        self.assertEqual(record["ratio"]["median"], 0.9)
        self.assertEqual(record["ratio"]["processes"], 3)
        self.assertEqual(record["ratios"], [0.9, 1.0, 95 / 110])
        self.assertEqual(record["best"], "triton")

    def test_quotients_are_of_the_same_turn(self):
        mine = [peer_row("kfuse_fused", 1, [10, 20, 30]), peer_row("triton", 1, [20, 40, 60])]
        record = report.summarise(mine, True)
        self.assertEqual((record["ratio"]["p20"], record["ratio"]["median"], record["ratio"]["p80"]), (0.5, 0.5, 0.5))

    def test_goals(self):
        for roof, limit in ((97.2, 1.02), (97, 1.01), (89.4, 1.01), (89.2, 0.95)):
            for slower, verdict in ((-0.001, "MET"), (0.001, "MISSED")):
                time = 100 * (limit + slower)
                self.assertEqual(self.verdict([time] * 3, roof=roof), verdict, (roof, limit, slower))
        self.assertEqual(report.limit_of(None), 1.01)
        self.assertEqual(report.summarise(rows([50] * 3), False)["verdict"], "CPU")

    def test_neither_a_roof_nor_kfuse_is_the_best_peer(self):
        mine = rows([90] * 3, roof=10) + [peer_row("kfuse_unfused", 1, [20] * 3)]
        self.assertEqual(report.summarise(mine, True)["best"], "triton")

    def test_who_failed_is_told(self):
        def failed(peer, status="failed", op="softmax"):
            lost = peer_row(peer, 1, [1], status=status, reason="Error: x", form=op)
            lost.update(samples_ns=None, time_ns=None)
            return {**lost, "form": op}

        mine = rows([90] * 3)
        self.assertEqual(report.summarise(mine, True)["failed"], {})
        record = report.summarise(mine + [failed("quack"), failed("jax", "wrong")], True)
        self.assertEqual(record["failed"], {"quack": "Error: x", "jax": "Error: x"})
        self.assertIn("<= 1.01 MET*", report.table([record]))
        for harmless in (
            failed("quack", "unsupported"),
            failed("kfuse_unfused"),
            failed("roof_read"),
            failed("quack", op="swiglu"),
            failed("triton"),
        ):  # triton has times of other processes
            record = report.summarise(mine + [harmless], True)
            self.assertEqual(record["failed"], {}, harmless)
            self.assertNotIn("MET*", report.table([record]))


class Anchors(unittest.TestCase):
    def test_softmax(self):
        shapes = "4096x4096 8192x512 8192x8192 1823x781 16384x4096 4096x32768 1024x131072 1x128256 4x1048576"
        wanted = {f"softmax {dtype} {shape}" for shape in shapes.split() for dtype in ("f32", "bf16")}
        self.assertEqual({case.text for case in ops.anchor_cases("softmax", None)}, wanted)


class Again(unittest.TestCase):
    def test_only_the_unclear_are_measured_again(self):
        cases = [ops.make_case("softmax", "bf16", [16, 32]), ops.make_case("softmax", "bf16", [16, 64])]
        first = rows([90, 90, 99]) + [{**row, "shape": [16, 64]} for row in rows([90, 90, 90])]
        asked = []

        class Process:
            """Measures what it is told to within 3 %."""

            def __init__(self, _o, mine, _device, _peers, number, *_):
                asked.append([case.text for case in mine])
                self.rows = [row for row in rows([91, 91, 92]) if row["process"] == number]

            def run(self):
                pass

        o = types.SimpleNamespace(again=2, processes=3, deadline=0)
        output = types.SimpleNamespace(write=lambda *_: None)
        with mock.patch.object(run, "Process", Process):
            after = run.measure_again(o, cases, "cuda", [], "", output, first)
        self.assertEqual(asked, [["softmax bf16 16x32"]] * 3)
        verdicts = [record["verdict"] for record in run.summaries(cases, after, "cuda")]
        self.assertEqual(verdicts, ["MET", "MET"])
        self.assertEqual(len(after), len(first))
        self.assertTrue(all(row.get("again") for row in after if row["shape"] == [16, 32]))


if __name__ == "__main__":
    unittest.main()
