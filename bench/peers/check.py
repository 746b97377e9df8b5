"""Is a provider's output right? Compared with double precision before it is timed, and once more with what the
replays left behind. SPDX-License-Identifier: Apache-2.0"""

import math
from dataclasses import dataclass

import sides

# Storing a result may cost one step of its type, relatively; the arithmetic is counted in units of UNIT.
STORE = {"f32": 2.0 ** -23, "f16": 2.0 ** -10, "bf16": 2.0 ** -7}
TINY = {"f32": 2.0 ** -120, "f16": 2.0 ** -24, "bf16": 2.0 ** -120}
UNIT = 2.0 ** -24
FACTORS = 32              # units of f32 that approximate exp, division and their kind may cost
STORED_STEPS = 8          # intermediates that a composition stores in the case's dtype


@dataclass
class Verdict:
    """What the comparison found; `reason` is "" when the output is right."""
    checked: int = 0
    bad: int = 0
    error: float = 0.0
    bound: float = 0.0
    ratio: float = 0.0    # largest error / bound
    reason: str = ""

    def as_json(self):
        return {"checked": self.checked, "bad": self.bad, "max_abs_err": self.error, "tolerance": self.bound,
                "worst_err_over_bound": self.ratio, "verified": None if self.reason else "whole"}


def units(case, stored):
    """Units of f32 rounding that a result may be off by, per size of its terms; sums may be taken one by one."""
    cols = case.shape_of(case.op.inputs[0])[-1] if len(case.op.inputs[0].dims.split()) > 1 else 1
    rows = case.shape_of(case.op.inputs[0])[0] if case.op.sums else 1
    own = (FACTORS + math.sqrt(cols) + math.sqrt(rows)) * UNIT
    return own + (STORED_STEPS * STORE[case.dtype] if stored else 0)


def judge(side, case, tensor, got, value, size, allowed, verdict):
    """One output, or some rows of it."""
    kept = side.dtype_of(got)
    got = side.wide(got)
    if math.prod(got.shape) != math.prod(value.shape):
        verdict.reason = f"'{tensor.name}' has the shape {tuple(got.shape)}, not {tuple(value.shape)}"
        return
    got = got.reshape(value.shape)
    error = abs(got - value)
    bound = STORE.get(kept, 0) * abs(value) + allowed * size + TINY.get(kept, 0)
    wrong = ~(error <= bound)  # a NaN is wrong
    bad = int(wrong.sum())
    verdict.checked += math.prod(value.shape)
    verdict.bad += bad
    if math.prod(value.shape):
        verdict.error = max(verdict.error, float(error.max()))
        verdict.bound = max(verdict.bound, float(bound.max()))
        verdict.ratio = max(verdict.ratio, float((error / bound).max()))
    if bad and not verdict.reason:
        at = int(side.argmax(wrong.reshape(-1) * 1))
        verdict.reason = (f"'{tensor.name}' is wrong: {float(got.reshape(-1)[at]):.6g} instead of "
                          f"{float(value.reshape(-1)[at]):.6g}, off by at most {float(bound.reshape(-1)[at]):.2g}")


def outputs_of(case, data, returned):
    """What a provider returned, by name, else what it wrote where it was told."""
    if returned is None:
        return {tensor.name: data[tensor.name] for tensor in case.op.outputs}
    if isinstance(returned, dict):
        return returned
    returned = returned if isinstance(returned, (tuple, list)) else (returned,)
    return {tensor.name: values for tensor, values in zip(case.op.outputs, returned)}


def check(side, case, data, returned, stored, before):
    """The verdict on every element of every output; `before` are the fingerprints of the inputs."""
    found = outputs_of(case, data, returned)
    verdict, totals = Verdict(), {}
    after = sides.fingerprints(side, case, data)
    spoilt = [name for name in before if before[name] != after[name]]
    if spoilt:
        verdict.reason = f"it wrote over '{spoilt[0]}', which the others still need"
        return verdict
    allowed = units(case, stored)
    missing = [tensor.name for tensor in case.op.outputs if found.get(tensor.name) is None]
    if missing:
        verdict.reason = f"there is no '{missing[0]}'"
        return verdict
    dropped = tells = 0
    for first, last in sides.slices(case):
        t = sides.wide_part(side, case, data, first, last)
        rows = {tensor.name: part_of(case, tensor, found[tensor.name], first, last) for tensor in case.op.outputs}
        if case.op.accept:
            truth, few, many = case.op.accept(side, t, {name: side.wide(part) for name, part in rows.items()})
            dropped, tells = dropped + few, tells + many
        else:
            truth = case.op.truth(side, t)
        for tensor in case.op.outputs:
            value, size = truth[tensor.name]
            if tensor.name in case.op.sums:
                sum_value, sum_size = totals.get(tensor.name, (0, 0))
                totals[tensor.name] = (sum_value + value, sum_size + size)
            else:
                judge(side, case, tensor, rows[tensor.name], value, size, allowed, verdict)
    for tensor in case.op.outputs:
        if tensor.name in totals:
            judge(side, case, tensor, found[tensor.name], *totals[tensor.name], allowed, verdict)
    if case.op.accept and not verdict.reason:
        check_share(case.op.attributes["p"], dropped, tells, verdict)
    return verdict


def part_of(case, tensor, values, first, last):
    return values if tensor.name in case.op.sums else sides.part_of(case, tensor, values, first, last)


def check_share(p, dropped, tells, verdict):
    """Of n elements p n are dropped, within six standard deviations."""
    if abs(dropped - p * tells) > 6 * math.sqrt(tells * p * (1 - p)) + 1:
        verdict.reason = f"{dropped} of {tells} elements were dropped; p is {p}"


def plant(side, case, data, returned):
    """Tests only: spoils one element, as a provider with a mistake in it would."""
    first = outputs_of(case, data, returned)[case.op.outputs[0].name].reshape(-1)
    first[len(first) // 2] += 1
