#!/usr/bin/env python3
"""Backups by tidemarkd, qemu-storage-daemon and qemu-img convert, in one run: medians, and ratios to ours.

usage: backup_bench.py [--folder DIR] [--rounds N] [--scale N] [--daemon PATH] [--client PATH] [CASE ...]

CASE is full-runs, full-random or incremental; each in qcow2. --scale divides the sizes (1: 2 GiB of data). Peers
are interleaved. Absolute figures belong to the machine they were measured on; only ratios travel. Build with
`bazel build --config=opt //service:tidemarkd //service/cli:tidemark`.
"""

import argparse
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.dirname(os.path.realpath(__file__)))
import peers  # pylint: disable=wrong-import-position

MIB = 1 << 20
CLUSTER = 64 << 10


def make_disk(path, size_bytes, extents):
    """A qcow2 image with random data in `extents`, each (offset, length)."""
    raw = path + ".raw"
    with open(raw, "wb") as file:
        file.truncate(size_bytes)
        for offset, length in extents:
            for at in range(offset, offset + length, MIB):
                file.seek(at)
                file.write(os.urandom(min(MIB, offset + length - at)))
    subprocess.run(["qemu-img", "convert", "-f", "raw", "-O", "qcow2", raw, path], check=True)
    os.unlink(raw)


def runs_disk(path, scale):
    size = 4096 * MIB // scale
    step = 128 * MIB // scale
    make_disk(path, size, [(offset, step // 2) for offset in range(0, size, step)])
    return size


def random_disk(path, scale):
    size = 8192 * MIB // scale
    clusters = random.Random(1).sample(range(size // CLUSTER), size // CLUSTER // 4)
    make_disk(path, size, [(cluster * CLUSTER, CLUSTER) for cluster in sorted(clusters)])
    return size


def touch_memory():
    """The first touch of memory is slow on some virtual machines: done before, not during, a run."""
    memory = bytearray(1024 * MIB)
    for at in range(0, len(memory), 4096):
        memory[at] = 1


def warm(path):
    with open(path, "rb") as file:
        while file.read(16 * MIB):
            pass


def run_full(arguments, folder, daemons, make):
    source, target = f"{folder}/source.qcow2", f"{folder}/target.qcow2"
    size = make(source, arguments.scale)
    samples = {}
    for _ in range(arguments.rounds):
        for peer in daemons:
            touch_memory()
            warm(source)
            sample = peers.full_backup(peer, source, target, size, "qcow2")
            samples.setdefault(peer.name, []).append(sample)
            subprocess.run(["qemu-img", "compare", "-q", source, target], check=True)
        touch_memory()
        warm(source)
        samples.setdefault("qemu-img", []).append(peers.convert(source, target, "qcow2"))
    return samples


def dirty_one_percent(uri, size, seed):
    import nbd  # pylint: disable=import-outside-toplevel
    disk = nbd.NBD()
    disk.connect_uri(uri)
    for cluster in random.Random(seed).sample(range(size // CLUSTER), size // CLUSTER // 100):
        disk.pwrite(os.urandom(4096), cluster * CLUSTER)
    disk.flush()
    disk.shutdown()


def run_incremental(arguments, folder, daemons):
    source, target = f"{folder}/source.qcow2", f"{folder}/target.qcow2"
    size = random_disk(source, arguments.scale)
    samples = {}
    for number in range(arguments.rounds):
        for peer in daemons:
            nbd_socket = f"{folder}/nbd-{peer.name}.sock"
            peers.create(target, size, "qcow2")
            peer.call("blockdev-add", peers.node("source", source, "qcow2"))
            peer.call("blockdev-add", peers.node("target", target, "qcow2"))
            peer.call("block-dirty-bitmap-add", {"node": "source", "name": "b"})
            peer.call("nbd-server-start", {"addr": {"type": "unix", "data": {"path": nbd_socket}}})
            peer.call("block-export-add", {"type": "nbd", "id": "e", "node-name": "source",
                                           "writable": True})
            dirty_one_percent(f"nbd+unix:///source?socket={nbd_socket}", size, number)

            def backup(peer=peer):
                peer.call("blockdev-backup", {"job-id": "backup", "device": "source",
                                              "target": "target", "sync": "incremental",
                                              "bitmap": "b"})
                return peer.job_seconds("backup")

            samples.setdefault(peer.name, []).append(peer.measure(backup, target))
            peer.call("nbd-server-stop", {})
            peer.call("blockdev-del", {"node-name": "target"})
            peer.call("blockdev-del", {"node-name": "source"})
    return samples


def report(case, samples):
    def median(name, field):
        return statistics.median(getattr(sample, field) for sample in samples[name])

    print(f"\n{case}: median of {len(samples['tidemark'])}; in brackets ours divided by theirs")
    print(f"{'':10} {'seconds':>18} {'CPU seconds':>18} {'peak MiB':>18}")
    for name in samples:
        cells = []
        for field, form in (("seconds", "{:8.3f}"), ("cpu_seconds", "{:8.2f}"), ("peak_mib", "{:8.0f}")):
            theirs = median(name, field)
            ratio = median("tidemark", field) / theirs if theirs else float("nan")
            cells.append(form.format(theirs) + f" ({ratio:5.2f})")
        print(f"{name:10} " + " ".join(f"{cell:>18}" for cell in cells), flush=True)


def main():
    parser = argparse.ArgumentParser(usage=__doc__)
    parser.add_argument("--folder", help="where images go: a disk worth measuring")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--scale", type=int, default=1)
    parser.add_argument("--daemon", default="bazel-bin/service/tidemarkd")
    parser.add_argument("--client", default="bazel-bin/service/cli/tidemark")
    parser.add_argument("cases", nargs="*", default=["full-runs", "full-random", "incremental"])
    arguments = parser.parse_args()
    if not shutil.which("qemu-storage-daemon"):
        sys.exit("qemu-storage-daemon is not installed: deploy/packages test")
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        daemons = [peers.Tidemark(arguments.daemon, arguments.client, folder),
                   peers.StorageDaemon(folder)]
        try:
            for case in arguments.cases:
                if case == "full-runs":
                    samples = run_full(arguments, folder, daemons, runs_disk)
                elif case == "full-random":
                    samples = run_full(arguments, folder, daemons, random_disk)
                elif case == "incremental":
                    samples = run_incremental(arguments, folder, daemons)
                else:
                    sys.exit(f"unknown case {case}")
                report(case, samples)
        finally:
            for daemon in daemons:
                daemon.stop()


if __name__ == "__main__":
    main()
