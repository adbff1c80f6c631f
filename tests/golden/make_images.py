#!/usr/bin/env python3
"""Makes the golden images of this folder with QEMU's own tools, and `golden.txt`, which says what they hold.

Needs qemu-img, qemu-io and qemu-storage-daemon (made with 7.2). Run it in this folder; the images are
checked in, so only a new image calls for it. Images are stored through zlib (`NAME.z`): they are mostly holes.

One line of `golden.txt` for each image, tab separated:
  name, what qemu-img check finds (corruptions, leaks), virtual size, SHA-256 of the guest's view
The guest's view of `huge` (1 PiB) is that of the four clusters at HUGE_OFFSETS, one after another. Images that must not
open have "-" for both. `bitmaps.txt` has a line for each bitmap: image, name in hex, granularity, flags as
qemu-img prints them, SHA-256 as x-debug-block-dirty-bitmap-sha256 prints it ("-" if in use).
"""

import hashlib
import json
import os
import random
import shutil
import signal
import struct
import subprocess
import tempfile
import zlib

HERE = os.path.dirname(os.path.realpath(__file__))
CLUSTER = 65536
HUGE_OFFSETS = [0, 1 << 30, (1 << 49) + CLUSTER, (1 << 50) - CLUSTER]
HEADER_AUTOCLEAR_OFFSET = 88
HEADER_INCOMPATIBLE_OFFSET = 72

names = []


def run(*command, **more):
    return subprocess.run(command, check=True, capture_output=True, text=True, **more).stdout


def create(name, size, options=""):
    names.append(name)
    image = name + ".qcow2"
    run("qemu-img", "create", "-q", "-f", "qcow2", *(["-o", options] if options else []), image, str(size))
    return image


def io(image, *commands, options=()):
    arguments = []
    for command in commands:
        arguments += ["-c", command]
    return run("qemu-io", "-f", "qcow2", *options, *arguments, image)


def scribble(image, size, seed, writes=24, length_max=20000):
    """Writes, zeroes and discards at places that no cluster size likes."""
    random_ = random.Random(seed)
    commands = []
    for _ in range(writes):
        offset = random_.randrange(0, size // 512) * 512
        length = min(size - offset, random_.randrange(1, length_max // 512 + 2) * 512)
        kind = random_.choice(["write -P %d" % random_.randrange(1, 256)] * 4 + ["write -z", "write -z -u", "discard"])
        commands.append("%s %d %d" % (kind, offset, length))
    io(image, *commands, options=["-d", "unmap"])


def patch(image, offset, data):
    with open(image, "r+b") as file:
        file.seek(offset)
        file.write(data)


def read_integer(image, offset, code):
    with open(image, "rb") as file:
        file.seek(offset)
        return struct.unpack(">" + code, file.read(struct.calcsize(code)))[0]


class Daemon:
    """A qemu-storage-daemon with the image open read-write as node0."""

    def __init__(self, image, read_only=False):
        self.process = subprocess.Popen(
            ["qemu-storage-daemon", "--chardev", "stdio,id=stdio", "--monitor", "chardev=stdio",
             "--blockdev", "file,node-name=file0,filename=" + image,
             "--blockdev", "qcow2,node-name=node0,file=file0" + (",read-only=on" if read_only else "")],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.process.stdout.readline()
        self.call("qmp_capabilities")

    def call(self, command, **arguments):
        self.process.stdin.write(json.dumps({"execute": command, "arguments": arguments}) + "\n")
        self.process.stdin.flush()
        while True:
            answer = json.loads(self.process.stdout.readline())
            if "return" in answer:
                return answer["return"]
            if "error" in answer:
                raise RuntimeError(answer)

    def kill(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def quit(self):
        self.call("quit")
        self.process.wait()


def versions_and_geometry():
    size = 300 * 1024 + 512
    scribble(create("v2", size, "compat=0.10,cluster_size=4096"), size, 1)
    scribble(create("cluster-512", size, "cluster_size=512"), size, 2)
    scribble(create("cluster-2m", 5 * 1024 * 1024 + 1536, "cluster_size=2M"), 5 * 1024 * 1024 + 1536, 3,
             length_max=3000000)
    for bits in (1, 2, 4, 8, 32, 64):
        scribble(create("refcount-%d" % bits, size, "cluster_size=4096,refcount_bits=%d" % bits), size, 10 + bits)
    create("empty", 0)
    scribble(create("preallocated", size, "preallocation=metadata,cluster_size=8192"), size, 20)


def compressed():
    for kind in ("zlib", "zstd"):
        raw = "compressed-source.raw"
        random_ = random.Random(5)
        with open(raw, "wb") as file:
            for cluster in range(12):
                values = [random_.randrange(256) for _ in range(1 + cluster * cluster * 9)]
                file.write(bytes(random_.choice(values) for _ in range(4096)) if cluster % 4 != 3
                           else random_.randbytes(4096))
            file.write(random_.randbytes(700) * 3)
            file.truncate((file.tell() + 511) // 512 * 512)
        names.append("compressed-" + kind)
        image = names[-1] + ".qcow2"
        run("qemu-img", "convert", "-c", "-O", "qcow2", "-o", "cluster_size=4k,compression_type=" + kind, raw, image)
        io(image, "write -P 9 20000 3000", "write -z 32768 4096")
        os.remove(raw)


def chains():
    base = create("backing-base", 100 * 1024, "cluster_size=4096")
    scribble(base, 100 * 1024, 30)
    image = create("backing-top", 200 * 1024,
                   "cluster_size=8192,backing_file=backing-base.qcow2,backing_fmt=qcow2")
    scribble(image, 200 * 1024, 31, writes=10)
    io(image, "write -z 24576 8192", "write -z -u 40960 8192")


def snapshots():
    image = create("snapshots", 200 * 1024, "cluster_size=4096")
    scribble(image, 200 * 1024, 40)
    run("qemu-img", "snapshot", "-c", "before lunch", image)
    scribble(image, 200 * 1024, 41)
    run("qemu-img", "snapshot", "-c", "after \u2615", image)
    scribble(image, 200 * 1024, 42)


def bitmaps():
    size = 3 * 1024 * 1024 + 512
    image = create("bitmaps", size, "cluster_size=4096")
    run("qemu-img", "bitmap", "--add", "-g", "512", image, "every bit")
    io(image, "write -P 4 0 %d" % size)
    run("qemu-img", "bitmap", "--disable", image, "every bit")
    for name, granularity in (("fine", 512), ("cluster", 4096), ("coarse", 1 << 20), ("larger than the disk", 1 << 31),
                              ("ta\u015fma/\"quoted\" \u2603", 65536), ("n" * 1023, 32768)):
        run("qemu-img", "bitmap", "--add", "-g", str(granularity), image, name)
    scribble(image, size, 50)
    run("qemu-img", "bitmap", "--disable", image, "cluster")
    io(image, "write -P 3 2000000 100000")
    run("qemu-img", "bitmap", "--add", "--disable", "-g", "4096", image, "never written")
    run("qemu-img", "bitmap", "--clear", image, "coarse")

    image = create("bitmaps-small-clusters", 9 * 1024 * 1024, "cluster_size=512")
    run("qemu-img", "bitmap", "--add", "-g", "512", image, "many clusters")
    for number in range(40):
        run("qemu-img", "bitmap", "--add", "-g", "65536", image, "bitmap %d" % number)
    io(image, "write -P 1 1000000 1000", "write -P 1 9000000 1000")

    image = create("bitmaps-in-use", 1024 * 1024)
    run("qemu-img", "bitmap", "--add", image, "lost")
    run("qemu-img", "bitmap", "--add", "--disable", image, "unchanged")
    Daemon(image).kill()

    image = create("bitmaps-autoclear", 1024 * 1024, "cluster_size=4096")
    run("qemu-img", "bitmap", "--add", image, "stale")
    patch(image, HEADER_AUTOCLEAR_OFFSET, bytes(8))


def marks():
    image = create("lazy-dirty", 256 * 1024, "cluster_size=4096,lazy_refcounts=on")
    subprocess.run(["qemu-io", "-f", "qcow2", "-c", "write -P 7 0 50000", "-c", "write -P 8 100000 3000", "-c", "flush",
                    "-c", "abort", image], capture_output=True)

    image = create("leaks", 256 * 1024, "cluster_size=4096")
    io(image, "write -P 1 0 20000")
    end = os.path.getsize(image) // 4096
    refcount_block = read_integer(image, read_integer(image, 48, "Q"), "Q")
    os.truncate(image, (end + 3) * 4096)
    for number in range(3):
        patch(image, refcount_block + (end + number) * 2, struct.pack(">H", 1))

    image = create("refcount-too-low", 256 * 1024, "cluster_size=4096")
    io(image, "write -P 1 0 20000")
    patch(image, read_integer(image, read_integer(image, 48, "Q"), "Q") + 5 * 2, bytes(4))

    image = create("shared-cluster", 256 * 1024, "cluster_size=4096")
    io(image, "write -P 1 0 20000")
    table = read_integer(image, read_integer(image, 40, "Q"), "Q") & ((1 << 56) - 512)
    patch(image, table + 8, struct.pack(">Q", read_integer(image, table, "Q")))

    image = create("marked-corrupt", 256 * 1024)
    io(image, "write -P 1 0 20000")
    patch(image, HEADER_INCOMPATIBLE_OFFSET, struct.pack(">Q", 2))


def huge():
    image = create("huge", 1 << 50, "cluster_size=2M")
    io(image, *("write -P %d %d 3000" % (number + 1, offset + 512) for number, offset in enumerate(HUGE_OFFSETS)))


def refused():
    create("extended-l2", 1024 * 1024, "extended_l2=on,cluster_size=16k")
    names.append("encrypted")
    run("qemu-img", "create", "-q", "-f", "qcow2", "--object", "secret,id=s,data=abc", "-o",
        "encrypt.format=aes,encrypt.key-secret=s", "encrypted.qcow2", "1M")
    with open("data.raw", "wb"):
        pass
    create("data-file", 1024 * 1024, "data_file=data.raw")
    image = create("unknown-feature", 1024 * 1024)
    patch(image, HEADER_INCOMPATIBLE_OFFSET, struct.pack(">Q", 1 << 40))
    image = create("bad-bitmap-directory", 1024 * 1024)
    run("qemu-img", "bitmap", "--add", image, "b0")
    with open(image, "rb") as file:
        extension = file.read(4096).index(struct.pack(">I", 0x23852875))
    directory = read_integer(image, extension + 8 + 16, "Q")
    patch(image, directory + 16, b"\x07")


def hash_of_guest_view(name):
    image = name + ".qcow2"
    if name == "huge":
        digest = hashlib.sha256()
        for offset in HUGE_OFFSETS:
            run("qemu-img", "dd", "-f", "qcow2", "-O", "raw", "if=" + image, "of=part.raw", "bs=%d" % CLUSTER,
                "skip=%d" % (offset // CLUSTER), "count=%d" % (offset // CLUSTER + 1))
            with open("part.raw", "rb") as file:
                digest.update(file.read())
            os.remove("part.raw")
        return digest.hexdigest()
    run("qemu-img", "convert", "-U", "-O", "raw", image, "view.raw")
    with open("view.raw", "rb") as file:
        digest = hashlib.sha256(file.read()).hexdigest()
    os.remove("view.raw")
    return digest


def describe(name):
    image = name + ".qcow2"
    check = subprocess.run(["qemu-img", "check", "--output=json", image], capture_output=True, text=True)
    try:
        info = json.loads(run("qemu-img", "info", "--output=json", image))
        view = hash_of_guest_view(name)
    except subprocess.CalledProcessError:
        return name, "-", "-", "-", "-"
    if name in ("extended-l2", "encrypted", "data-file"):
        return name, "-", "-", "-", "-"
    found = json.loads(check.stdout)
    return name, str(found.get("corruptions", 0)), str(found.get("leaks", 0)), str(info["virtual-size"]), view


def describe_bitmaps(name):
    image = name + ".qcow2"
    try:
        info = json.loads(run("qemu-img", "info", "--output=json", image))
    except subprocess.CalledProcessError:
        return
    listed = info.get("format-specific", {}).get("data", {}).get("bitmaps", [])
    if not listed:
        return
    daemon = Daemon(image, read_only=True)
    for bitmap in listed:
        digest = "-" if "in-use" in bitmap["flags"] else daemon.call(
            "x-debug-block-dirty-bitmap-sha256", node="node0", name=bitmap["name"])["sha256"]
        yield (name, bitmap["name"].encode().hex(), str(bitmap["granularity"]),
               ",".join(sorted(bitmap["flags"])) or "-", digest)
    daemon.quit()


def main():
    work = tempfile.mkdtemp()
    os.chdir(work)
    for make in (versions_and_geometry, compressed, chains, snapshots, bitmaps, marks, huge, refused):
        make()
    with open(os.path.join(HERE, "golden.txt"), "w", encoding="utf-8") as file:
        for name in names:
            file.write("\t".join(describe(name)) + "\n")
    with open(os.path.join(HERE, "bitmaps.txt"), "w", encoding="utf-8") as file:
        for name in names:
            for line in describe_bitmaps(name):
                file.write("\t".join(line) + "\n")
    for name in names:
        with open(name + ".qcow2", "rb") as file:
            packed = zlib.compress(file.read(), 9)
        assert len(packed) < 65536, (name, len(packed))
        with open(os.path.join(HERE, name + ".qcow2.z"), "wb") as file:
            file.write(packed)
    os.chdir(HERE)
    shutil.rmtree(work)


if __name__ == "__main__":
    main()
