"""The guest of deploy/quickstart: uses a disk over NBD as a virtual machine would.

  quickstart_guest.py write URI LOG_OFFSET LOG_SLOTS READY   writes numbered records to the log until SIGTERM; makes
                                                     the file READY when it has filled the log once
  quickstart_guest.py copy URI OLD NEW                     writes the blocks in which NEW differs from OLD
  quickstart_guest.py check RAW LOG_OFFSET LOG_SLOTS       shows that the log is of one moment

The disk holds an ext4 file system. One of its files is a log of fixed size; record number k goes to slot k modulo
the number of slots, one after another. So a copy of one moment holds consecutive numbers, and a copy that mixes
moments does not.
"""

import hashlib
import signal
import struct
import sys

SLOT_BYTES = 4096
BLOCK_BYTES = 4096


def record(number):
    body = struct.pack("<Q", number) * 508
    return body + hashlib.sha256(body).digest()


def connect(uri):
    import nbd  # pylint: disable=import-outside-toplevel
    handle = nbd.NBD()
    handle.connect_uri(uri)
    return handle


def write(uri, log_offset, slots, ready_path):
    stopped = []
    signal.signal(signal.SIGTERM, lambda *_: stopped.append(True))
    disk = connect(uri)
    number = 0
    while not stopped:
        disk.pwrite(record(number), log_offset + number % slots * SLOT_BYTES)
        number += 1
        if number == slots:
            with open(ready_path, "w", encoding="ascii"):
                pass
    disk.flush()
    disk.shutdown()
    print(f"the guest wrote {number} records")


def copy(uri, old_path, new_path):
    disk = connect(uri)
    written = 0
    with open(old_path, "rb") as old, open(new_path, "rb") as new:
        offset = 0
        while block := new.read(BLOCK_BYTES):
            if block != old.read(BLOCK_BYTES):
                disk.pwrite(block, offset)
                written += 1
            offset += len(block)
    disk.flush()
    disk.shutdown()
    print(f"the guest changed {written} blocks of its file system")


def check(path, log_offset, slots):
    numbers = []
    with open(path, "rb") as disk:
        for slot in range(slots):
            disk.seek(log_offset + slot * SLOT_BYTES)
            data = disk.read(SLOT_BYTES)
            (number,) = struct.unpack_from("<Q", data)
            if data == bytes(SLOT_BYTES):
                continue
            if data != record(number):
                sys.exit(f"slot {slot} of the log holds a broken record")
            numbers.append(number)
    if not numbers:
        print("  the log is empty: the guest had not written yet")
        return
    if max(numbers) - min(numbers) + 1 != len(numbers):
        sys.exit(f"the log mixes moments: {len(numbers)} records from {min(numbers)} to {max(numbers)}")
    print(f"  records {min(numbers)} to {max(numbers)}, none missing: the disk of one moment")


def main():
    verb, arguments = sys.argv[1], sys.argv[2:]
    if verb == "write":
        write(arguments[0], int(arguments[1]), int(arguments[2]), arguments[3])
    elif verb == "copy":
        copy(*arguments)
    elif verb == "check":
        check(arguments[0], int(arguments[1]), int(arguments[2]))
    else:
        sys.exit(__doc__)


if __name__ == "__main__":
    main()
