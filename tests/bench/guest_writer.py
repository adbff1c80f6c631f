#!/usr/bin/env python3
"""A guest that writes: 4 KiB at a time over NBD, one after another, until its input ends.

usage: guest_writer.py URI OFFSET ...

Writes go to random places of the 64 KiB clusters at the OFFSETs, each of which is written whole first; then it
prints a line. At the end it prints when each write began and ended (CLOCK_MONOTONIC), in pairs of doubles.
"""

import array
import os
import random
import select
import sys
import time

import nbd

CLUSTER = 64 << 10
PAGE = 4 << 10


def main():
    disk = nbd.NBD()
    disk.connect_uri(sys.argv[1])
    offsets = [int(offset) for offset in sys.argv[2:]]
    for offset in offsets:
        disk.pwrite(os.urandom(CLUSTER), offset)
    disk.flush()
    print("ready", flush=True)
    chance = random.Random(1)
    content = os.urandom(CLUSTER)
    times = array.array("d")
    while not select.select([sys.stdin], [], [], 0)[0]:
        for _ in range(64):
            at = chance.choice(offsets) + chance.randrange(CLUSTER // PAGE) * PAGE
            what = chance.randrange(CLUSTER - PAGE)
            data = bytearray(content[what:what + PAGE])
            begin = time.monotonic()
            disk.pwrite(data, at)
            times.extend((begin, time.monotonic()))
    disk.shutdown()
    times.tofile(sys.stdout.buffer)


if __name__ == "__main__":
    main()
