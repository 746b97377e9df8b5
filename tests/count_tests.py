#!/usr/bin/env python3
"""Counts the tests that ran and were not skipped, per label, and compares them with a minimum.

ctest counts a program as one test, and a program that skipped everything as passed; so the tests of the CMocka
programs are counted from the XML that they wrote, those of scripts from ctest's JUnit file.

    count_tests.py CTEST_JSON CTEST_JUNIT XML_FOLDER [--minimum FILE [--without LABEL]]

Exit: 0, or 1 when fewer tests ran than the file demands or a program's XML is missing.
SPDX-License-Identifier: Apache-2.0"""

import argparse
import glob
import json
import os
import re
import sys
import xml.etree.ElementTree as ElementTree

FIELDS = ("run", "failed", "skipped")


def labels_of(path):
    """Labels and command of every ctest test, by name."""
    with open(path, encoding="utf-8") as file:
        tests = json.load(file)["tests"]
    found = {}
    for test in tests:
        properties = {p["name"]: p["value"] for p in test.get("properties", [])}
        labels = properties.get("LABELS") or ["none"]
        script = any(part.endswith((".sh", ".py")) for part in test.get("command", []))
        found[test["name"]] = (labels if isinstance(labels, list) else [labels], script)
    return found


def outcomes(path):
    """What ctest saw, by name: "run", "fail" or "skip"."""
    seen = {}
    for case in ElementTree.parse(path).getroot().iter("testcase"):
        status = case.get("status")
        skipped = case.find("skipped") is not None or status in ("notrun", "disabled")
        seen[case.get("name")] = "skip" if skipped else ("fail" if status == "fail" else "run")
    return seen


def count_cmocka(paths):
    """run, failed, skipped of one program, and the failure messages. CMocka does not escape what a test prints,
    so the files are read as text."""
    counts, messages = dict.fromkeys(FIELDS, 0), []
    for path in paths:
        with open(path, encoding="utf-8", errors="replace") as file:
            text = file.read()
        for match in re.finditer(r"<testcase name=\"([^\"]*)\"[^>]*?(/>|>(.*?)</testcase>)", text, re.S):
            body = match.group(3) or ""
            if "<skipped" in body:
                counts["skipped"] += 1
                continue
            counts["run"] += 1
            if "<failure" in body or "<error" in body:
                counts["failed"] += 1
                message = re.search(r"<!\[CDATA\[(.*?)\]\]>", body, re.S)
                messages.append((match.group(1), message.group(1).strip() if message else body.strip()))
    return counts, messages


def read_minimum(path):
    """Lines of "label number"."""
    minimum = {}
    with open(path, encoding="utf-8") as file:
        for line in file:
            words = line.split("#")[0].split()
            if words:
                minimum[words[0]] = int(words[1])
    return minimum


def collect(options):
    """Counts per label, and sentences about what is wrong."""
    tests, seen = labels_of(options.ctest_json), outcomes(options.ctest_junit)
    totals, wrong = {}, []
    for name, (labels, script) in sorted(tests.items()):
        if name not in seen:
            continue
        stem = re.sub(r"[^A-Za-z0-9_]", "_", name)
        paths = glob.glob(os.path.join(glob.escape(options.xml), stem + ".*xml"))
        counts = dict.fromkeys(FIELDS, 0)
        if paths:
            counts, messages = count_cmocka(paths)
            for test, message in messages:
                print(f"FAILED {name}: {test}\n    " + message.replace("\n", "\n    "))
        elif seen[name] == "skip":
            counts["skipped"] = 1
        elif script:
            counts["run"], counts["failed"] = 1, int(seen[name] == "fail")
        elif seen[name] == "run":
            wrong.append(f"{name} passed but left no XML: what ran in it is unknown")
        else:
            counts["run"] = counts["failed"] = 1
        for label in labels:
            total = totals.setdefault(label, dict.fromkeys(FIELDS, 0))
            for field in FIELDS:
                total[field] += counts[field]
    return totals, wrong


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("ctest_json")
    parser.add_argument("ctest_junit")
    parser.add_argument("xml")
    parser.add_argument("--minimum")
    parser.add_argument("--without", default="", help="a label that cannot run on this distribution")
    options = parser.parse_args()
    if not os.path.exists(options.ctest_junit):
        print("count_tests: ctest ran nothing")
        return 1
    totals, wrong = collect(options)
    minimum = read_minimum(options.minimum) if options.minimum else {}
    if minimum.pop(options.without, 0):
        print(f"count_tests: no minimum for {options.without}: this distribution lacks what it needs")
    print(f"\n{'LABEL':<12}{'RUN':>8}{'FAILED':>8}{'SKIPPED':>9}" + ("  AT LEAST" if minimum else ""))
    for label in sorted(set(totals) | set(minimum)):
        total = totals.get(label, dict.fromkeys(FIELDS, 0))
        line = f"{label:<12}{total['run']:>8}{total['failed']:>8}{total['skipped']:>9}"
        print(line + (f"{minimum.get(label, 0):>10}" if minimum else ""))
        if total["run"] < minimum.get(label, 0):
            wrong.append(f"label {label}: {total['run']} tests ran, at least {minimum[label]} must")
    for sentence in wrong:
        print("count_tests: " + sentence)
    print()
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
