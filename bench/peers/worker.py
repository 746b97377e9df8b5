"""One fresh process of a measurement: `worker.py JOB ROWS`. JOB says which cases and peers; ROWS gets JSON Lines,
among them where the work stands, so that the parent knows what a crash belongs to. SPDX-License-Identifier:
Apache-2.0"""

import json
import math
import os
import sys
import time
import traceback

import check
import kfuse_cmd
import kfuse_lib
import ops
import registry
import sides
import timing
from provider import Missing, Refused, World

KEPT = ("time_ns", "samples_ns", "path", "variant", "launches_per_sample", "sets", "bytes_min", "verified", "checked",
        "bad", "max_abs_err", "tolerance", "worst_err_over_bound", "device", "cache")
REMEDY = "pip install -r bench/peers/requirements.txt"
DEAD = 75  # exit code: the device's context is of no use any more


def number(value):
    return value if math.isfinite(value) else None


class Worker:
    """The cases of one process."""

    def __init__(self, job, rows):
        self.job, self.rows = job, rows
        self.plant = os.environ.get("KFUSE_PEERS_PLANT", "")
        self.here, self.before = {}, {}
        self.versions = {}
        try:
            self.world = self.open_world()
        except Missing as missing:  # without tensors nobody takes part
            self.world = self.side = None
            self.versions = {name: {"missing": str(missing)} for name in job["peers"]}
            return
        self.side = self.world.side
        for peer in registry.peers():
            if peer.name in job["peers"]:
                self.probe(peer)
        self.probe_command()

    def open_world(self):
        device = self.job["device"]
        side = sides.open_side(device)
        self.write({"probing": "libkfuse"})
        try:
            if "libkfuse" in self.job["gone"]:
                raise Missing(f"libkfuse {self.job['gone']['libkfuse']}")
            library = kfuse_lib.Library(self.job["library"], side)
        except Missing as missing:
            library = missing
        return World(side, library, self.job["command"], self.job["samples"])

    def probe(self, peer):
        if peer.name in self.job["gone"]:
            self.versions[peer.name] = {"missing": self.job["gone"][peer.name]}
            return
        self.write({"probing": peer.name})
        if self.plant == f"probe:{peer.name}":
            os.abort()
        try:
            version = peer.probe(self.world)
            self.here[peer.name] = peer
            self.versions[peer.name] = {"version": version}
        except Missing as missing:
            self.versions[peer.name] = {"missing": str(missing)}

    def probe_command(self):
        if kfuse_cmd.NAME not in self.job["peers"]:
            return
        found = {"version": self.world.command} if self.world.command else {"missing": "no kfuse command was found"}
        self.versions[kfuse_cmd.NAME] = found

    # ---- records ----

    def write(self, record):
        self.rows.write(json.dumps(record) + "\n")
        self.rows.flush()

    def at(self, index, peer):
        self.write({"at": index, "peer": peer})
        if self.plant == f"crash:{peer}":
            os.abort()
        if self.plant in (f"hang:{peer}", f"hang:{peer}@{index}"):
            time.sleep(3600)

    def describe(self):
        if not self.side:
            self.write({"describe": {}, "peers": self.versions, "side": None})
            return
        device = {"name": self.side.name}
        if self.side.gpu:
            cuda = self.side.module.cuda
            properties = cuda.get_device_properties(self.side.device)
            device = {"name": properties.name, "uuid": str(getattr(properties, "uuid", "")),
                      "cuda": self.side.module.version.cuda, "cache_bytes": getattr(properties, "L2_cache_size", None),
                      "memory": properties.total_memory}
        if not isinstance(self.world.kfuse, Missing):
            device["kfuse"] = self.world.kfuse.where
            device["driver"] = self.world.kfuse.info.driver.decode(errors="replace")
        self.write({"describe": device, "peers": self.versions, "side": self.side.name})

    def row(self, case, peer, status, reason=None, **more):
        base = {"record": "peer", "peer": peer, "op": case.op.kfuse_name, "form": case.op.name, "dtype": case.dtype,
                "shape": case.shape, "with": case.op.options or None, "attributes": case.op.attributes,
                "device": self.device_name(), "cache": "cold" if self.side.gpu else "warm",
                "process": self.job["process"], "status": status, "reason": reason, "time_ns": None,
                "samples_ns": None, "verified": None}
        base.update(more)
        self.write(base)

    def device_name(self):
        return self.side.module.cuda.get_device_name() if self.side.gpu else "CPU"

    # ---- one case ----

    def ready(self, case, peer, sets, pool):
        """A lane of a provider whose output is right: (lane, call, verdict)."""
        call = peer.build(self.world, case, sets)
        if call.roof:
            return self.lane(case, call, sets, pool), call, check.Verdict()
        self.poison(case, sets[0])
        call.run(sets[-1])
        returned = call.run(sets[0])
        verdict = self.judge(case, peer, call, sets, call.left() if call.left else returned)
        if verdict.reason:
            return None, call, verdict
        lane = self.lane(case, call, sets, pool)
        self.poison(case, sets[0])
        again = self.judge(case, peer, call, sets, lane.left_behind())
        return (None if again.reason else lane), call, again

    def poison(self, case, data):
        for tensor in case.op.outputs:
            self.side.poison(data[tensor.name])

    def judge(self, case, peer, call, sets, returned):
        self.side.wait()
        if self.plant == f"spoil:{peer.name}":
            sets[0][case.op.inputs[0].name][...] = 0
        if self.plant == f"wrong:{peer.name}":
            check.plant(self.side, case, sets[0], returned)
        return check.check(self.side, case, sets[0], returned, call.stored, self.before)

    def lane(self, case, call, sets, pool):
        if self.side.gpu and not call.batch:
            return timing.GraphLane(self.side, call, sets, pool)
        return timing.HostLane(self.side, call, sets)

    def new_pool(self):
        """Memory that the graphs of a case share."""
        return timing.Pool(self.side) if self.side.gpu else None

    def prepare(self, index, case, sets):
        """{name: (lane, call, verdict)} of those that may be timed; the others get their row."""
        lanes, skipped, pool = {}, self.job["skip"].get(str(index), {}), self.new_pool()
        for name, peer in self.here.items():
            if name in skipped:
                self.row(case, name, "failed", skipped[name])
                continue
            self.at(index, name)
            try:
                if not peer.has(case.op.name):
                    raise Refused(f"{peer.what} has no {case.op.name}")
                lane, call, verdict = self.ready(case, peer, sets, pool)
                if lane:
                    lanes[name] = (lane, call, verdict)
                else:
                    self.row(case, name, "wrong", verdict.reason, **self.verdict(verdict))
                    if sides.fingerprints(self.side, case, sets[0]) != self.before:
                        sides.refill(self.side, case, sets)
            except (Refused, NotImplementedError) as refused:
                self.row(case, name, "unsupported", (str(refused).splitlines() or ["it gives no reason"])[0][:300])
            except Exception as error:  # pylint: disable=broad-except  # a peer's failure is its own
                self.failed(case, name, error)
                pool = self.new_pool()  # a capture that broke off leaves the old one unusable
            self.side.release()
        return lanes

    def failed(self, case, name, error):
        text = str(error).strip().splitlines()
        self.row(case, name, "failed", f"{type(error).__name__}: {text[0] if text else ''}"[:300])
        if os.environ.get("KFUSE_PEERS_TRACE"):
            traceback.print_exc()
        try:
            self.side.wait()
        except Exception:  # pylint: disable=broad-except
            sys.stdout.flush()
            os._exit(DEAD)

    @staticmethod
    def verdict(verdict):
        return {key: number(value) if isinstance(value, float) else value for key, value in verdict.as_json().items()}

    def measure(self, index):
        case = ops.make_case(self.job["cases"][index]["op"], self.job["cases"][index]["dtype"],
                             self.job["cases"][index]["shape"])
        self.at(index, "")
        sets = sides.make_sets(self.side, case)
        self.before = sides.fingerprints(self.side, case, sets[0])
        lanes = self.prepare(index, case, sets)
        self.at(index, "")
        count = self.job["samples"] or (timing.GPU_SAMPLES if self.side.gpu else timing.CPU_SAMPLES)
        samples = timing.take_samples({name: lane for name, (lane, _, _) in lanes.items()}, count)
        for name, values in samples.items():
            lane, call, verdict = lanes[name]
            middle, low, high = timing.band(values)
            self.row(case, name, "ok", time_ns={"median": middle * 1e9, "p20": low * 1e9, "p80": high * 1e9,
                                                "min": min(values) * 1e9, "n": len(values)},
                     samples_ns=[value * 1e9 for value in values], path=lane.path, how=call.how or None,
                     variant=call.variant or None, launches_per_sample=lane.calls, sets=len(sets),
                     bytes_min=case.bytes_of(case.op.tensors), **self.verdict(verdict))
        lanes.clear()
        self.side.wait()
        self.opencl(index, case)

    def opencl(self, index, case):
        name = kfuse_cmd.NAME
        if "version" not in self.versions.get(name, {}) or self.job["process"] > 1:
            return  # it is a fresh process anyway, and has no part in the turns
        skipped = self.job["skip"].get(str(index), {})
        if name in skipped:
            self.row(case, name, "failed", skipped[name])
            return
        self.at(index, name)
        device = ""
        if self.side.gpu:
            device = str(getattr(self.side.module.cuda.get_device_properties(self.side.device), "uuid", ""))
        found, reason = kfuse_cmd.bench(self.world.command, case, self.job["samples"], device)
        if reason:
            self.row(case, name, "failed", reason)
            return
        kept = {key: found.get(key) for key in KEPT}
        self.row(case, name, "ok", how="a process of its own, kfuse bench", **kept)

    def run(self):
        self.describe()
        for index in range(self.job["first"], len(self.job["cases"])):
            if self.job["deadline"] and time.time() > self.job["deadline"]:
                self.write({"case_failed": index, "reason": self.job["over"]})
                continue
            try:
                self.measure(index)
            except Exception as error:  # pylint: disable=broad-except  # out of memory, say: the next case may fit
                self.write({"case_failed": index, "reason": f"{type(error).__name__}: {error}".splitlines()[0][:300]})
                if os.environ.get("KFUSE_PEERS_TRACE"):
                    traceback.print_exc()
                try:
                    self.side.wait()
                except Exception:  # pylint: disable=broad-except
                    os._exit(DEAD)
            self.write({"done": index})
            self.side.release()


def main():
    with open(sys.argv[1], encoding="utf-8") as file:
        job = json.load(file)
    with open(sys.argv[2], "a", encoding="utf-8") as rows:
        worker = Worker(job, rows)
        if job.get("only_describe"):
            worker.describe()
        elif not worker.side:
            alone = ", or numpy alone" if job["device"] == "numpy" else ""
            sys.exit(f"{next(iter(worker.versions.values()))['missing']}; {REMEDY}{alone}")
        else:
            worker.run()
        rows.flush()
    sys.stdout.flush()
    os._exit(0)  # drivers that crash while they are torn down have nothing to say any more


if __name__ == "__main__":
    main()
