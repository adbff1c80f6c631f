#!/usr/bin/env python3
"""Reads through long backing chains, by tidemarkd and qemu-storage-daemon: medians, and ratios to ours.

usage: chain_bench.py [--folder DIR] [--rounds N] [--scale N] [--daemon PATH] [--client PATH]
                      [--idle] [OVERLAYS ...]

OVERLAYS are how many images lie over the base: 20, 60 and 180 unless said. Every image holds single clusters
at random places: half of the base, and 8 MiB of each overlay; --scale divides all sizes (1: a disk of 1 GiB).
All peers serve the same files, read-only, over NBD; one client (libnbd) asks all of them, in turns. Everything
is read and compared with what was written; so is what block status says. Wrong data ends the run with status 1,
a figure never does. --idle leaves the daemons up, with what they serve, until a key is pressed: for a profiler.

Needs python3-libnbd: run it with /usr/bin/python3. A second QEMU is measured if TIDEMARK_QEMU_10 names its
folder (tests/fetch_qemu). Build with `bazel build --config=opt //service:tidemarkd //service/cli:tidemark`.
"""

import argparse
import contextlib
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.dirname(os.path.realpath(__file__)))
import peers  # pylint: disable=wrong-import-position

MIB = 1 << 20
PAGE = 4 << 10
CLUSTER = 64 << 10
ALLOCATION = "base:allocation"
DEPTH = "qemu:allocation-depth"
READS_ZEROES = 2  # In the flags of base:allocation.


class WrongData(Exception):
    """A peer gave what was not written."""


class Chain:
    """Images over a base, and what they hold together at the levels that are measured."""

    def __init__(self, folder, levels, scale):
        self.folder = folder
        self.size = 1024 * MIB // scale
        self.clusters = self.size // CLUSTER
        self.contents = {}
        self.owners = {}  # By level: which image each cluster comes from, or None.
        content = bytearray(self.size)
        owner = [None] * self.clusters
        chance = random.Random(1)
        for level in range(max(levels) + 1):
            count = self.clusters // (128 if level else 2)
            chosen = sorted(chance.sample(range(self.clusters), count))
            for cluster in chosen:
                content[cluster * CLUSTER:(cluster + 1) * CLUSTER] = os.urandom(CLUSTER)
                owner[cluster] = level
            self._make_image(level, content, chosen)
            if level in levels:
                self.contents[level] = bytes(content)
                self.owners[level] = list(owner)

    def image(self, level):
        return f"{self.folder}/level{level}.qcow2"

    def _make_image(self, level, content, chosen):
        raw = f"{self.folder}/clusters.raw"
        with open(raw, "wb") as file:
            file.truncate(self.size)
            for cluster in chosen:
                file.seek(cluster * CLUSTER)
                file.write(memoryview(content)[cluster * CLUSTER:(cluster + 1) * CLUSTER])
        subprocess.run(["qemu-img", "convert", "-f", "raw", "-O", "qcow2", raw, self.image(level)],
                       check=True)
        os.unlink(raw)
        if level:
            below = os.path.basename(self.image(level - 1))
            subprocess.run(["qemu-img", "rebase", "-u", "-f", "qcow2", "-F", "qcow2", "-b", below,
                            self.image(level)], check=True)

    def expected(self, level, context):
        """What block status has to say, as (length, value): data or not; how deep each cluster lies."""
        if context == ALLOCATION:
            return merged((CLUSTER, owner is not None) for owner in self.owners[level])
        return merged((CLUSTER, 0 if owner is None else level - owner + 1)
                      for owner in self.owners[level])


def merged(extents):
    result = []
    for length, value in extents:
        if result and result[-1][1] == value:
            result[-1][0] += length
        else:
            result.append([length, value])
    return result


class Served:
    """The top of a chain as one peer serves it, until it is closed."""

    def __init__(self, peer, chain, level):
        self.peer = peer
        self.chain = chain
        self.level = level
        path = f"{chain.folder}/nbd-{peer.name}.sock"
        peer.call("blockdev-add", {"driver": "qcow2", "node-name": "top", "read-only": True,
                                   "file": {"driver": "file", "filename": chain.image(level)}})
        peer.call("nbd-server-start", {"addr": {"type": "unix", "data": {"path": path}}})
        peer.call("block-export-add", {"type": "nbd", "id": "e", "node-name": "top",
                                       "allocation-depth": True})
        self.uri = f"nbd+unix:///top?socket={path}"
        self.connections = {}

    def connection(self, context):
        import nbd  # pylint: disable=import-outside-toplevel
        if context not in self.connections:
            disk = nbd.NBD()
            disk.add_meta_context(context)
            disk.connect_uri(self.uri)
            if not disk.can_meta_context(context):
                raise WrongData(f"{self.peer.name} does not offer {context}")
            self.connections[context] = disk
        return self.connections[context]

    def close(self):
        for disk in self.connections.values():
            disk.shutdown()
        self.peer.call("nbd-server-stop", {})
        self.peer.call("blockdev-del", {"node-name": "top"})

    def read(self, requests, buffers, depth):
        """Seconds to read each (offset, length) into its buffer; `depth` requests are under way at a time."""
        disk = self.connection(ALLOCATION)
        errors = []

        def done(error):
            if error.value:
                errors.append(error.value)
            return 1

        begin = time.monotonic()
        for (offset, _), buffer in zip(requests, buffers):
            while disk.aio_in_flight() >= depth:
                disk.poll(-1)
            disk.aio_pread(buffer, offset, done)
        while disk.aio_in_flight():
            disk.poll(-1)
        seconds = time.monotonic() - begin
        if errors:
            raise WrongData(f"{self.peer.name}: {len(errors)} reads failed with errno {errors[0]}")
        content = memoryview(self.chain.contents[self.level])
        for (offset, length), buffer in zip(requests, buffers):
            if buffer.to_bytearray() != content[offset:offset + length]:
                raise WrongData(f"{self.peer.name}, {self.level} overlays: wrong data in {length} "
                                f"bytes at {offset}")
        return seconds

    def status(self, context):
        """Seconds to learn the block status of everything."""
        disk = self.connection(context)
        extents = []

        def told(name, _offset, entries, _error):
            if name == context:
                extents.extend(zip(entries[::2], entries[1::2]))

        offset = 0
        begin = time.monotonic()
        while offset < self.chain.size:
            count = len(extents)
            disk.block_status(self.chain.size - offset, offset, told)
            offset += sum(length for length, _ in extents[count:])
        seconds = time.monotonic() - begin
        if context == ALLOCATION:
            extents = [(length, not flags & READS_ZEROES) for length, flags in extents]
        if merged(extents) != self.chain.expected(self.level, context):
            raise WrongData(f"{self.peer.name}, {self.level} overlays: {context} is not what was written")
        return seconds


def buffers_for(requests):
    """One for each, touched beforehand: the first touch of memory is slow on some virtual machines."""
    import nbd  # pylint: disable=import-outside-toplevel
    return [nbd.Buffer.from_bytearray(bytearray(b"\1" * length)) for _, length in requests]


def cases(chain):
    """By name: how to measure it on what is served."""
    everything = [(offset, MIB) for offset in range(0, chain.size, MIB)]
    chance = random.Random(2)
    pages = [(chance.randrange(chain.size // PAGE) * PAGE, PAGE) for _ in range(8192)]
    everywhere, few = buffers_for(everything), buffers_for(pages)
    return {
        "all, 1 MiB": lambda served: served.read(everything, everywhere, 1),
        "all, 1 MiB, 8 at once": lambda served: served.read(everything, everywhere, 8),
        f"{len(pages)} random 4 KiB": lambda served: served.read(pages, few, 1),
        f"{len(pages)} random 4 KiB, 16 at once": lambda served: served.read(pages, few, 16),
        "10 times block status": lambda served: sum(served.status(ALLOCATION) for _ in range(10)),
        "10 times allocation depth": lambda served: sum(served.status(DEPTH) for _ in range(10)),
    }


def measure(rounds, daemons, chain, level, measures, idle):
    served = [Served(peer, chain, level) for peer in daemons]
    samples = {}
    for number in range(rounds + 1):  # The first one warms caches and is not counted.
        for name, run in measures.items():
            for each in served:
                pid = each.peer.process.pid
                cpu = peers.cpu_seconds(pid)
                seconds = run(each)
                sample = peers.Sample(seconds, peers.cpu_seconds(pid) - cpu, peers.peak_mib(pid))
                if number:
                    samples.setdefault(name, {}).setdefault(each.peer.name, []).append(sample)
    if idle:
        for each in served:
            print(f"{each.peer.name}: process {each.peer.process.pid}, {each.uri}")
        input("Enter goes on ")
    for each in served:
        each.close()
    return samples


def report(level, samples):
    names = list(next(iter(samples.values())))
    rounds = len(next(iter(samples.values()))[names[0]])
    print(f"\n{level} overlays: seconds, and CPU seconds of the daemon; median of {rounds}; "
          "in brackets ours divided by theirs")
    print(f"{'':34}" + "".join(f"{name:>28}" for name in names))
    for case, by_peer in samples.items():
        line = f"{case:34}"
        for name in names:
            cells = []
            for field in ("seconds", "cpu_seconds"):
                ours, theirs = (statistics.median(getattr(sample, field) for sample in by_peer[peer])
                                for peer in (names[0], name))
                ratio = f"({ours / theirs:.2f})" if theirs else "(-)"
                cells.append(f"{theirs:.3f} {ratio}" if field == "seconds" else f"{theirs:.2f} {ratio}")
            line += f"{cells[0]:>15}{cells[1]:>13}"
        print(line, flush=True)
    peaks = [max(sample.peak_mib for by_peer in samples.values() for sample in by_peer[name])
             for name in names]
    print(f"{'peak MiB so far':34}" + "".join(f"{peak:28.0f}" for peak in peaks), flush=True)


def main():
    parser = argparse.ArgumentParser(usage=__doc__)
    parser.add_argument("--folder", help="where images go")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--scale", type=int, default=1)
    parser.add_argument("--daemon", default="bazel-bin/service/tidemarkd")
    parser.add_argument("--client", default="bazel-bin/service/cli/tidemark")
    parser.add_argument("--idle", action="store_true")
    parser.add_argument("overlays", nargs="*", type=int, default=[20, 60, 180])
    arguments = parser.parse_args()
    peers.end_in_order()
    if not shutil.which("qemu-storage-daemon"):
        sys.exit("qemu-storage-daemon is not installed: deploy/packages test")
    try:
        import nbd  # pylint: disable=import-outside-toplevel,unused-import # noqa: F401
    except ImportError:
        sys.exit("python3-libnbd is not installed, or not for this Python: try /usr/bin/python3")
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        chain = Chain(folder, arguments.overlays, arguments.scale)
        measures = cases(chain)
        try:
            with contextlib.ExitStack() as running:
                daemons = [running.enter_context(make(folder)) for make in [
                    lambda place: peers.Tidemark(arguments.daemon, arguments.client, place),
                    *peers.storage_daemon_makers()]]
                for level in arguments.overlays:
                    report(level, measure(arguments.rounds, daemons, chain, level, measures,
                                          arguments.idle))
        except WrongData as wrong:
            sys.exit(f"WRONG DATA: {wrong}")


if __name__ == "__main__":
    main()
