"""Who is measured: tidemarkd, qemu-storage-daemon and qemu-img, with one way to use each.

A backup is durable: it ends when an fsync of the target has returned. CPU is that of the peer's process alone.
"""

import dataclasses
import json
import os
import resource
import signal
import socket
import subprocess
import sys
import time


@dataclasses.dataclass
class Sample:
    """One run: seconds until durable, CPU seconds, and the peak of resident memory in MiB."""
    seconds: float
    cpu_seconds: float
    peak_mib: float


def cpu_seconds(pid):
    with open(f"/proc/{pid}/stat", encoding="ascii") as stat:
        fields = stat.read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def reset_peak(pid):
    with open(f"/proc/{pid}/clear_refs", "w", encoding="ascii") as file:
        file.write("5")


def peak_mib(pid):
    with open(f"/proc/{pid}/status", encoding="ascii") as status:
        for line in status:
            if line.startswith("VmHWM"):
                return int(line.split()[1]) / 1024
    return 0.0


def fsync(path):
    descriptor = os.open(path, os.O_RDWR)
    os.fsync(descriptor)
    os.close(descriptor)


def create(path, size_bytes, file_format):
    if os.path.exists(path):
        os.unlink(path)
    subprocess.run(["qemu-img", "create", "-q", "-f", file_format, path, str(size_bytes)], check=True)


def end_in_order():
    """Lets SIGTERM (timeout, a runner) end a bench as an exception does: no peer outlives it."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))


class Ended(Exception):
    """A peer is no more, and nobody had told it to stop."""


class Daemon:
    """A peer that runs backups in a process of its own."""

    def __init__(self, command, socket_path):
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        while not os.path.exists(socket_path):
            if self.process.poll() is not None:
                raise RuntimeError(f"{command[0]} did not start")
            time.sleep(0.01)

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        self.process.wait()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        """Leaves no process behind, whatever went wrong."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    def measure(self, backup, target_path):
        """Runs `backup`, which returns the seconds its job took, and makes its target durable."""
        pid = self.process.pid
        reset_peak(pid)
        cpu = cpu_seconds(pid)
        seconds = backup()
        begin = time.monotonic()
        fsync(target_path)
        seconds += time.monotonic() - begin
        return Sample(seconds, cpu_seconds(pid) - cpu, peak_mib(pid))


class Tidemark(Daemon):
    """Ours. The time of a job is that between its first and its last event."""

    name = "tidemark"

    def __init__(self, daemon, client, folder):
        self.client = client
        self.socket = f"{folder}/tidemark.sock"
        super().__init__([daemon, "--listen", f"unix:{self.socket}"], self.socket)

    def call(self, command, arguments):
        result = subprocess.run(
            [self.client, "--address", f"unix:{self.socket}", "--json", command,
             json.dumps(arguments)], check=True, capture_output=True, text=True)
        return json.loads(result.stdout or "{}")

    def job_seconds(self, job):
        self.call("wait-job", {"id": job})
        seen = self.call("get-job", {"id": job})["job"]
        if seen["outcome"] != "succeeded":
            raise RuntimeError(f"{self.name}: {seen}")
        return timestamp(seen["end-time"]) - timestamp(seen["start-time"])


class StorageDaemon(Daemon):
    """qemu-storage-daemon, by QMP. The time of a job is that between its first and its last event."""

    def __init__(self, folder, name="qsd", program=("qemu-storage-daemon",)):
        self.name = name
        self.socket = f"{folder}/qmp-{self.name}.sock"
        super().__init__([*program, "--chardev",
                          f"socket,id=c,path={self.socket},server=on,wait=on",
                          "--monitor", "chardev=c"], self.socket)
        connection = socket.socket(socket.AF_UNIX)
        connection.connect(self.socket)
        self.stream = connection.makefile("rw")
        self.stream.readline()
        self.events = []
        self.call("qmp_capabilities", {})

    def prepare(self, command, arguments):
        """A function that sends the command, any number of times, and gives the line that answers."""
        request = json.dumps({"execute": command, "arguments": arguments}) + "\n"

        def send():
            self.stream.write(request)
            self.stream.flush()
            while True:
                line = self.stream.readline()
                if line.startswith('{"return"'):
                    return line
                if not line:
                    raise Ended(f"{self.name} ended by itself at {command}, "
                                f"status {self.process.wait()}")
                message = json.loads(line)
                if "event" in message:
                    self.events.append(message)
                elif "error" in message:
                    raise RuntimeError(f"{command}: {message['error']}")
                else:
                    return line

        return send

    @staticmethod
    def parse(_command, answer):
        return json.loads(answer)["return"]

    def call(self, command, arguments):
        return self.parse(command, self.prepare(command, arguments)())

    def job_seconds(self, job):
        begin = end = None
        while end is None:
            if not self.events:
                message = json.loads(self.stream.readline())
                if "event" in message:
                    self.events.append(message)
                continue
            event = self.events.pop(0)
            if event["event"] != "JOB_STATUS_CHANGE" or event["data"]["id"] != job:
                continue
            stamp = event["timestamp"]["seconds"] + event["timestamp"]["microseconds"] / 1e6
            if event["data"]["status"] == "created":
                begin = stamp
            elif event["data"]["status"] == "null":
                end = stamp
        return end - begin


def storage_daemon_makers():
    """Functions of a folder that start Debian's, and the newer one if TIDEMARK_QEMU_10 names its folder, as
    tests/fetch_qemu prints it."""
    makers = [StorageDaemon]
    newer = os.environ.get("TIDEMARK_QEMU_10")
    if newer:
        program = ["env", f"QEMU_MODULE_DIR={newer}/usr/lib/x86_64-linux-gnu/qemu",
                   f"{newer}/usr/bin/qemu-storage-daemon"]
        makers.append(lambda folder: StorageDaemon(folder, "qsd10", program))
    else:
        print("left out: QEMU 10, for TIDEMARK_QEMU_10 is not set")
    return makers


def timestamp(text):
    """RFC 3339 to seconds."""
    import datetime  # pylint: disable=import-outside-toplevel
    whole, _, fraction = text.rstrip("Z").partition(".")
    moment = datetime.datetime.strptime(whole, "%Y-%m-%dT%H:%M:%S")
    moment = moment.replace(tzinfo=datetime.timezone.utc)
    return moment.timestamp() + float("0." + (fraction or "0"))


def node(name, path, file_format):
    options = {"driver": file_format, "node-name": name, "read-only": False, "discard": "unmap",
               "file": {"driver": "file", "filename": path}}
    if file_format == "qcow2":
        options["backing"] = None
    return options


def full_backup(peer, source_path, target_path, size_bytes, file_format):
    """One full backup by a daemon, from the creation of its target to the closing of the nodes."""
    create(target_path, size_bytes, file_format)
    peer.call("blockdev-add", node("source", source_path, file_format))
    peer.call("blockdev-add", node("target", target_path, file_format))

    def backup():
        peer.call("blockdev-backup", {"job-id": "backup", "device": "source", "target": "target",
                                      "sync": "full"})
        return peer.job_seconds("backup")

    sample = peer.measure(backup, target_path)
    peer.call("blockdev-del", {"node-name": "target"})
    peer.call("blockdev-del", {"node-name": "source"})
    return sample


def convert(source_path, target_path, file_format):
    """The same by qemu-img convert."""
    if os.path.exists(target_path):
        os.unlink(target_path)
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    begin = time.monotonic()
    subprocess.run(["qemu-img", "convert", "-W", "-m", "16", "-f", file_format, "-O", file_format,
                    source_path, target_path], check=True)
    fsync(target_path)
    seconds = time.monotonic() - begin
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Sample(seconds, cpu, after.ru_maxrss / 1024)
