"""From the rows of fresh processes to what can be said: who is best, by how much, how sure. And the table.
SPDX-License-Identifier: Apache-2.0"""

import statistics

import registry
import timing

APART = 1.03        # processes whose ratios differ by more than this do not agree
NEAR_ROOF = 1.03    # a peer within 3 % of its roof
SLACK = 1.12        # a peer that takes more than this times its roof has left room
LIMITS = {"near": 1.02, "usual": 1.01, "slack": 0.95}


def key(row):
    return (row["form"], row["dtype"], tuple(row["shape"]))


def limit_of(best_over_roof):
    """What kfuse fused may take, as a multiple of the best peer."""
    if best_over_roof is None:
        return LIMITS["usual"]
    kind = "near" if best_over_roof <= NEAR_ROOF else "slack" if best_over_roof > SLACK else "usual"
    return LIMITS[kind]


def medians(rows):
    """{peer: median over processes of its median, ns}"""
    found = {}
    for row in rows:
        if row["status"] == "ok":
            found.setdefault(row["peer"], []).append(row["time_ns"]["median"])
    return {peer: statistics.median(times) for peer, times in found.items()}


def process_ratios(rows, ours, best):
    """(median, low, high) of the quotients of samples taken in turns, per process."""
    samples = {}
    for row in rows:
        if row["status"] == "ok" and row["peer"] in (ours, best):
            samples.setdefault(row["process"], {})[row["peer"]] = row["samples_ns"]
    return [timing.ratio(pair[ours], pair[best]) for _, pair in sorted(samples.items()) if len(pair) == 2]


def failures(rows, times):
    """{peer: why} of the rivals that might have run and gave no time: nobody knows that they are slower."""
    return {row["peer"]: row["reason"] or row["status"] for row in rows
            if row["status"] in ("failed", "wrong") and row["peer"] not in times
            and registry.might_run(row["peer"], row["form"])}


def summarise(rows, gpu):
    """The record of one case over all processes: kfuse fused against the best peer."""
    times = medians(rows)
    rivals = {peer: time for peer, time in times.items() if peer in registry.rivals()}
    roof = min((time for peer, time in times.items() if peer.startswith("roof_")), default=None)
    best = min(rivals, key=rivals.get, default=None)
    first = rows[0]
    record = {"record": "ratio", "op": first["op"], "form": first["form"], "dtype": first["dtype"],
              "shape": first["shape"], "with": first["with"], "device": first["device"], "cache": first["cache"],
              "ours": registry.OURS, "best": best, "medians_ns": times, "roof_ns": roof, "ratio": None, "ratios": [],
              "limit": None, "verdict": None, "failed": failures(rows, times)}
    ratios = process_ratios(rows, registry.OURS, best) if best else []
    if not ratios:
        return record
    middles = [middle for middle, _, _ in ratios]
    record["ratios"] = middles
    record["ratio"] = {"median": statistics.median(middles), "p20": statistics.median(low for _, low, _ in ratios),
                       "p80": statistics.median(high for _, _, high in ratios), "processes": len(ratios)}
    record["limit"] = limit_of(rivals[best] / roof if roof else None)
    record["best_over_roof"] = rivals[best] / roof if roof else None
    if not gpu:
        record["verdict"] = "CPU"  # proves nothing about GPUs
    elif max(middles) > APART * min(middles):
        record["verdict"] = "UNCLEAR"
    else:
        record["verdict"] = "MET" if record["ratio"]["median"] <= record["limit"] else "MISSED"
    return record


# ---- the table ----------------------------------------------------------------------------------------------

def micro(nanoseconds):
    if nanoseconds is None:
        return "-"
    value = nanoseconds / 1e3
    return f"{value:.2f}" if value < 10 else f"{value:.1f}" if value < 1000 else f"{value:.0f}"


def star(record):
    """Behind a verdict from which a peer is missing that might have run."""
    return "*" if record["failed"] else ""


def line_of(record):
    times, ratio = record["medians_ns"], record["ratio"]
    best = record["best"]
    others = sorted(((time, peer) for peer, time in times.items()
                     if peer not in (registry.OURS, "kfuse_unfused", "kfuse_opencl", best)))
    return [f"{record['form']} {record['dtype']} {'x'.join(map(str, record['shape']))}",
            micro(times.get("kfuse_unfused")), micro(times.get(registry.OURS)), micro(times.get("kfuse_opencl")),
            f"{best} {micro(times[best])}" if best else "-",
            f"{ratio['median']:.3f} ({ratio['p20']:.3f}..{ratio['p80']:.3f})" if ratio else "-",
            "-" if record["verdict"] in (None, "CPU")
            else f"<= {record['limit']:.2f} {record['verdict']}{star(record)}",
            ", ".join(f"{peer} {micro(time)}" for time, peer in others)]


HEAD = ["case", "unfused us", "fused us", "OpenCL us", "best peer us", "fused / best", "goal", "others us"]


def table(records):
    lines = [HEAD] + [line_of(record) for record in records]
    widths = [max(len(line[column]) for line in lines) for column in range(len(HEAD))]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(line, widths)).rstrip() for line in lines)


def notes(rows, peers):
    """Who is missing and why, who was wrong or failed where, one line each."""
    said = [f"{name}: not here: {found['missing']}" for name, found in peers.items() if "missing" in found]
    troubles = {}
    for row in rows:
        if row["status"] in ("wrong", "failed"):
            troubles.setdefault((row["peer"], row["status"], row["reason"]), []).append(
                f"{row['form']} {row['dtype']} {'x'.join(map(str, row['shape']))}")
    for (peer, status, reason), cases in troubles.items():
        cases = list(dict.fromkeys(cases))
        more = f" and {len(cases) - 1} more" if len(cases) > 1 else ""
        said.append(f"{peer}: {status}, so no time, at {cases[0]}{more}: {reason}")
    return said
