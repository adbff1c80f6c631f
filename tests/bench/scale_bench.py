#!/usr/bin/env python3
"""Many nodes and jobs in one daemon, and the instant of a backup: tidemarkd beside qemu-storage-daemon.

usage: scale_bench.py [--folder DIR] [--rounds N] [--seconds N] [--nodes N] [--jobs N] [--starts N]
                      [--daemon PATH] [CASE ...]

CASE is
  commands  1,000 nodes, first alone, then with 200 backups: how long commands take (p50, p99, max),
            threads and memory of the daemon, and how evenly equal jobs get on. Four of five jobs have a
            speed limit and copy files; the others read a large file as fast as they can and write nowhere
            (null-co), so that the machine is busy. Jobs are started for 30 s at most. In the end ten
            copies are finished and compared.
  instant   one guest writes 4 KiB at a time to a disk of 64 TiB while an incremental backup starts, again
            and again: its latency in quiet, around the start, and while the job runs. In the end the copy
            is compared.
Wrong data ends the run with status 1, a figure never does.

Needs python3-libnbd, python3-grpcio and python3-protobuf: run it with /usr/bin/python3. A second QEMU is
measured if TIDEMARK_QEMU_10 names its folder (tests/fetch_qemu). Build with
`bazel build --config=opt //service:tidemarkd`.
"""

import argparse
import array
import itertools
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.dirname(os.path.realpath(__file__)))
import peers  # noqa: E402 pylint: disable=wrong-import-position

MIB = 1 << 20
CLUSTER = 64 << 10
LARGE_BYTES = 2048 * MIB
SLOW_SPEED = MIB // 2  # Bytes a second.
CHECKED_BYTES = 16 * MIB
NODE_BYTES = 16 * MIB
HUGE_BYTES = 64 << 40
PATIENCE = 30  # Seconds to start jobs.


class WrongData(Exception):
    """A copy is not what was copied."""


def compare(source, target, what):
    if subprocess.run(["qemu-img", "compare", "-q", "-f", "qcow2", "-F", "qcow2", source, target],
                      check=False).returncode:
        raise WrongData(what)


def status(pid, field):
    with open(f"/proc/{pid}/status", encoding="ascii") as file:
        return int(next(line for line in file if line.startswith(field + ":")).split()[1])


def percentile(values, share):
    values = sorted(values)
    return values[min(len(values) - 1, int(len(values) * share))]


def jobs_of(peer):
    """Bytes done by each job, by id."""
    return progress(peer.call("query-jobs", {}))


def progress(jobs):
    return {job["id"]: int(job.get("current-progress", 0)) for job in jobs}


def wait_for_none(peer, seconds=600):
    deadline = time.monotonic() + seconds
    ask_for_jobs = peer.prepare("query-jobs", {})
    while peer.parse("query-jobs", ask_for_jobs()):
        if time.monotonic() > deadline:
            raise RuntimeError(f"{peer.name}: jobs did not end: {peer.call('query-jobs', {})}")
        time.sleep(0.005)


class Crowd:
    """The nodes and jobs of one daemon."""

    def __init__(self, peer, folder, nodes, jobs):
        self.peer = peer
        self.folder = folder
        self.nodes = nodes
        self.fast = [f"fast{number}" for number in range(jobs // 5)]
        slow = jobs - jobs // 5
        self.checked = [f"checked{number}" for number in range(min(10, slow // 2))]
        self.slow = [f"slow{number}" for number in range(slow - len(self.checked))]
        self.started = []

    def jobs(self):
        """All, in the order in which they are started: one of five without a limit."""
        limited, fast = self.checked + self.slow, list(self.fast)
        for number, job in enumerate(limited, 1):
            yield job
            if number % 4 == 0 and fast:
                yield fast.pop()
        yield from fast

    def path(self, node):
        return f"{self.folder}/{node}.qcow2"

    def add_nodes(self):
        """Seconds for all of them."""
        template = self.path("template")
        peers.create(template, NODE_BYTES, "qcow2")
        names = [f"idle{number}" for number in range(self.nodes - 2 * len(list(self.jobs())))]
        for name in names + ["extra"]:
            shutil.copy(template, self.path(name))
        content = os.urandom(LARGE_BYTES // 64)
        large = f"{self.folder}/large.raw"
        with open(large, "wb") as file:
            for _ in range(64):
                file.write(content)
        for number, job in enumerate(self.checked):
            raw = f"{self.folder}/content.raw"
            with open(raw, "wb") as file:
                file.write(content[number * CLUSTER:])
                file.truncate(CHECKED_BYTES)
            subprocess.run(["qemu-img", "convert", "-f", "raw", "-O", "qcow2", raw,
                            self.path("source-" + job)], check=True)
            names.append("source-" + job)
        for job in self.checked + self.slow:
            size = CHECKED_BYTES if job in self.checked else LARGE_BYTES
            peers.create(self.path("target-" + job), size, "qcow2")
            names.append("target-" + job)
        options = [peers.node(name, self.path(name), "qcow2") for name in names]
        options += [{"driver": "raw", "node-name": "source-" + job, "read-only": True,
                     "file": {"driver": "file", "filename": large}} for job in self.slow + self.fast]
        options += [{"driver": "null-co", "node-name": "target-" + job, "size": LARGE_BYTES}
                    for job in self.fast]
        begin = time.monotonic()
        for each in options:
            self.peer.call("blockdev-add", each)
        return time.monotonic() - begin

    def start_jobs(self):
        """Seconds for as many as can be started in time."""
        begin = time.monotonic()
        for job in self.jobs():
            self.peer.call("blockdev-backup", {
                "job-id": job, "device": "source-" + job, "target": "target-" + job, "sync": "full",
                "speed": 0 if job in self.fast else SLOW_SPEED})
            self.started.append(job)
            if time.monotonic() - begin > PATIENCE:
                break
        return time.monotonic() - begin

    def commands(self):
        """By name: calls that follow one another, with what comes back the way it went."""
        prepare = self.peer.prepare
        job = self.slow[0]
        bitmap = {"node": "idle0", "name": "extra"}
        calls = [
            ("query-jobs", {}), ("blockdev-add", peers.node("extra", self.path("extra"), "qcow2")),
            ("query-block-exports", {}), ("blockdev-del", {"node-name": "extra"}),
            ("block-dirty-bitmap-add", bitmap), ("query-named-block-nodes", {"flat": True}),
            ("block-dirty-bitmap-remove", bitmap)]
        verbs = [("block-job-set-speed", {"device": job, "speed": SLOW_SPEED}),
                 ("job-pause", {"id": job}), ("job-resume", {"id": job})]
        return ([(name, prepare(name, arguments)) for name, arguments in calls],
                [(name, prepare(name, arguments)) for name, arguments in verbs])

    def finish(self):
        """Seconds until all jobs have ended, most of them cancelled. Then copies are compared."""
        begin = time.monotonic()
        for job in jobs_of(self.peer):
            if job in self.checked:
                self.peer.call("block-job-set-speed", {"device": job, "speed": 0})
            else:
                self.peer.call("job-cancel", {"id": job})
        wait_for_none(self.peer)
        seconds = time.monotonic() - begin
        self.peer.stop()
        for job in set(self.checked) & set(self.started):
            compare(self.path("source-" + job), self.path("target-" + job),
                    f"{self.peer.name}: the copy of {job} is not its source")
        return seconds


def ask(calls, seconds, pid):
    """Latencies of each command in ms, the answers to query-jobs, and the most threads seen."""
    latencies, answers, threads = {}, [], 0
    end = time.monotonic() + seconds
    for name, call in itertools.cycle(calls):
        begin = time.monotonic()
        answer = call()
        latencies.setdefault(name, []).append((time.monotonic() - begin) * 1e3)
        if name == "query-jobs":
            answers.append(answer)
        if name == calls[-1][0]:
            threads = max(threads, status(pid, "Threads"))
            if time.monotonic() > end:
                return latencies, answers, threads


def evenness(peer, answers, jobs):
    """Least and most MiB that equal jobs got done between the first answer and the last one that shows all of
    them, so that it does not matter who started first; and how many still ran at the end."""
    seen = [progress(peer.parse("query-jobs", answer)) for answer in answers]
    whole = [each for each in seen if all(job in each for job in jobs)]
    still = sum(job in seen[-1] for job in jobs)
    if not jobs or len(whole) < 2:
        return float("nan"), float("nan"), still
    done = [(whole[-1][job] - whole[0][job]) / MIB for job in jobs]
    return min(done), max(done), still


def each_peer(arguments, folder, make_peers, measure):
    """What `measure` gives of each peer, by name, in turns."""
    for make in make_peers * arguments.rounds:
        with tempfile.TemporaryDirectory(dir=folder) as place:
            try:
                with make(place) as peer:
                    yield peer.name, measure(arguments, peer, place)
            except peers.Ended as ended:
                print(f"left out: {ended}")


def measure_commands(arguments, peer, folder):
    """Latencies of commands without jobs and with them, and single figures."""
    pid = peer.process.pid
    crowd = Crowd(peer, folder, arguments.nodes, arguments.jobs)
    figures = {"add all nodes, s": crowd.add_nodes()}
    queries, verbs = crowd.commands()
    alone, _, figures["threads, no job"] = ask(queries, arguments.seconds / 2, pid)
    figures["resident MiB, no job"] = status(pid, "VmRSS") / 1024
    figures["start jobs, s"] = crowd.start_jobs()
    figures["jobs started"] = len(crowd.started)
    busy, answers, figures["threads, jobs"] = ask(queries + verbs, arguments.seconds, pid)
    figures["resident MiB, jobs"] = status(pid, "VmRSS") / 1024
    for kind, jobs in (("limited", crowd.slow[1:]), ("unlimited", crowd.fast)):
        started = [job for job in jobs if job in crowd.started]
        least, most, still = evenness(peer, answers, started)
        figures[f"{kind} jobs, still running"] = still
        figures[f"{kind} jobs, least MiB done"] = least
        figures[f"{kind} jobs, most MiB done"] = most
    figures["cancel all jobs, s"] = crowd.finish()
    return alone, busy, figures


def run_commands(arguments, folder, make_peers):
    """By peer: lists of latencies, and of single figures."""
    results = {}
    for name, (alone, busy, figures) in each_peer(arguments, folder, make_peers, measure_commands):
        result = results.setdefault(name, {"alone": {}, "busy": {}, "figures": {}})
        for kind, latencies in (("alone", alone), ("busy", busy)):
            latencies["all of them"] = list(itertools.chain(*latencies.values()))
            for command, values in latencies.items():
                result[kind].setdefault(command, []).extend(values)
        for figure, value in figures.items():
            result["figures"].setdefault(figure, []).append(value)
    return results


def ratio(ours, theirs):
    return f"({ours / theirs:.2f})" if theirs else "(-)"


def head(title, names):
    print(f"\n{title:32}" + "".join(f"{name:>48}" for name in names))


def row(title, values, shares):
    """A line of percentiles; `values` are lists by peer, ours first."""
    ours = next(iter(values.values()))
    line = f"{title:32}"
    for theirs in values.values():
        cells = [f"{percentile(theirs, share):.2f} "
                 f"{ratio(percentile(ours, share), percentile(theirs, share))}" for share in shares]
        line += f"{f'{len(theirs)}: ' + '  '.join(cells):>48}"
    print(line, flush=True)


def report_commands(arguments, results):
    print(f"\n{arguments.nodes} nodes, {arguments.jobs} jobs; number of samples, p50, p99 and max in ms; "
          "in brackets ours divided by theirs")
    first = next(iter(results.values()))
    for kind, title in (("alone", "no job"), ("busy", "with the jobs")):
        head(title, results)
        for command in first[kind]:
            row(command, {name: result[kind][command] for name, result in results.items()},
                (0.5, 0.99, 1))
    head(f"median of {arguments.rounds}", results)
    for figure in first["figures"]:
        ours = statistics.median(first["figures"][figure])
        line = f"{figure:32}"
        for result in results.values():
            theirs = statistics.median(result["figures"][figure])
            line += f"{f'{theirs:.2f} {ratio(ours, theirs)}':>48}"
        print(line, flush=True)


def guest_spots():
    """Clusters in groups far from one another, each group in an L2 table of its own."""
    return [group * (4 << 40) + cluster * CLUSTER for group in range(16) for cluster in range(64)]


class HugeDisk:
    """A disk of 64 TiB with a bitmap, a guest that writes to it, and a target."""

    def __init__(self, peer, folder):
        self.peer = peer
        self.source, self.target = f"{folder}/huge.qcow2", f"{folder}/target.qcow2"
        socket = f"{folder}/nbd.sock"
        for name, path in (("source", self.source), ("target", self.target)):
            peers.create(path, HUGE_BYTES, "qcow2")
            peer.call("blockdev-add", peers.node(name, path, "qcow2"))
        peer.call("block-dirty-bitmap-add", {"node": "source", "name": "b"})
        peer.call("nbd-server-start", {"addr": {"type": "unix", "data": {"path": socket}}})
        peer.call("block-export-add", {"type": "nbd", "id": "e", "node-name": "source",
                                       "writable": True})
        script = os.path.join(os.path.dirname(os.path.realpath(__file__)), "guest_writer.py")
        self.guest = subprocess.Popen(
            [sys.executable, script, f"nbd+unix:///source?socket={socket}",
             *map(str, guest_spots())], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        if self.guest.stdout.readline() != b"ready\n":
            raise RuntimeError("the guest did not start")
        self.backup = peer.prepare("blockdev-backup", {"job-id": "j", "device": "source",
                                                       "target": "target", "sync": "incremental",
                                                       "bitmap": "b"})

    def run_backup(self):
        """When the command began and ended, and when its job had ended."""
        begin = time.monotonic()
        self.backup()
        end = time.monotonic()
        wait_for_none(self.peer)
        return begin, end, time.monotonic()

    def stop_guest(self):
        """Writes, each (begin, end)."""
        times = array.array("d", self.guest.communicate()[0])
        return list(zip(times[::2], times[1::2]))

    def check(self):
        self.run_backup()
        self.peer.stop()
        compare(self.source, self.target, f"{self.peer.name}: the incremental backups of a huge disk "
                "do not add up to it")


def measure_instant(arguments, peer, folder):
    """The guest's writes, and when each backup began and ended."""
    disk = HugeDisk(peer, folder)
    disk.run_backup()
    backups = []
    for _ in range(arguments.starts):
        time.sleep(0.3)
        backups.append(disk.run_backup())
    writes = disk.stop_guest()
    disk.check()
    return writes, backups


def run_instant(arguments, folder, make_peers):
    """By peer: latencies of the guest's writes in ms by phase, and what commands and jobs took."""
    results = {}
    for name, (writes, backups) in each_peer(arguments, folder, make_peers, measure_instant):
        result = results.setdefault(name, {})
        sort_writes(writes, backups, result)
        for begin, end, ended in backups:
            result.setdefault("the command itself", []).append((end - begin) * 1e3)
            result.setdefault("job from start to end", []).append((ended - begin) * 1e3)
    return results


def sort_writes(writes, backups, result):
    """Puts latencies where they belong. A write belongs to a phase if it was under way in it."""
    margin = 0.02
    spans = [("write, at the start", begin, end + margin) for begin, end, _ in backups]
    spans += [("write, while the job runs", end + margin, ended) for _, end, ended in backups]
    spans += [("write, in quiet", ended + margin, following[0])
              for (_, _, ended), following in zip(backups, backups[1:])]
    for phase, first, last in spans:
        within = [(end - begin) * 1e3 for begin, end in writes if end > first and begin < last]
        result.setdefault(phase, []).extend(within)
        if phase == "write, at the start":
            result.setdefault("slowest write of each start", []).append(max(within, default=0))


def report_instant(arguments, results):
    print(f"\n64 TiB, {arguments.rounds * arguments.starts} starts; number of samples, p50, p99.9 and max "
          "in ms; in brackets ours divided by theirs")
    head("", results)
    for phase in ("write, in quiet", "write, at the start", "slowest write of each start",
                  "write, while the job runs", "the command itself", "job from start to end"):
        row(phase, {name: result.get(phase) or [0] for name, result in results.items()},
            (0.5, 0.999, 1))


def main():
    parser = argparse.ArgumentParser(usage=__doc__)
    parser.add_argument("--folder", help="where images go")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=10, help="how long commands are sent to busy daemons")
    parser.add_argument("--nodes", type=int, default=1000)
    parser.add_argument("--jobs", type=int, default=200)
    parser.add_argument("--starts", type=int, default=20, help="how many backups of the huge disk")
    parser.add_argument("--daemon", default="bazel-bin/service/tidemarkd")
    parser.add_argument("cases", nargs="*", default=["commands", "instant"])
    arguments = parser.parse_args()
    peers.end_in_order()
    if not shutil.which("qemu-storage-daemon"):
        sys.exit("qemu-storage-daemon is not installed: deploy/packages test")
    try:
        import nbd  # pylint: disable=import-outside-toplevel,unused-import # noqa: F401
        import rpc_peer  # pylint: disable=import-outside-toplevel
    except ImportError as error:
        sys.exit(f"{error}: try /usr/bin/python3")
    # qemu-storage-daemon does not raise it by itself.
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    make_peers = [lambda folder: rpc_peer.RpcTidemark(arguments.daemon, folder)]
    make_peers += peers.storage_daemon_makers()
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        try:
            for case in arguments.cases:
                if case == "commands":
                    report_commands(arguments, run_commands(arguments, folder, make_peers))
                elif case == "instant":
                    report_instant(arguments, run_instant(arguments, folder, make_peers))
                else:
                    sys.exit(f"unknown case {case}")
        except WrongData as wrong:
            sys.exit(f"WRONG DATA: {wrong}")


if __name__ == "__main__":
    main()
