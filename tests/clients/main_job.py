"""The main job, as a client would do it: attach, export, full backup, incremental, restore, compare.

Told against an object that calls RPCs by name: generated stubs and reflection offer the same one.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time

SIZE = 8 << 20
CLUSTER = 64 << 10


class Skip(Exception):
    """A tool that this test needs is missing."""


def tool(*command):
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


class Daemon:
    """A tidemarkd in a folder of its own."""

    def __init__(self):
        self.folder = tempfile.mkdtemp(prefix="tidemark-", dir="/tmp")
        self.address = "unix:" + os.path.join(self.folder, "tidemarkd.sock")
        binary = os.environ.get("TIDEMARKD") or os.path.join(
            os.environ["TEST_SRCDIR"], os.environ["TEST_WORKSPACE"], "service", "tidemarkd")
        self.log = open(os.path.join(self.folder, "log"), "w+", encoding="utf-8")
        self.process = subprocess.Popen(
            [binary, "--listen=" + self.address, "--state_dir=" + self.path("state"),
             "--image_root=" + self.folder], stdout=self.log, stderr=self.log)

    def path(self, name):
        return os.path.join(self.folder, name)

    def stop(self):
        """Ends the service in an orderly way; the files stay."""
        self.process.terminate()
        status = self.process.wait(timeout=60)
        self.log.seek(0)
        assert status == 0, f"tidemarkd ended with {status}:\n{self.log.read()}"

    def clear(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)


def write_as_guest(socket, pattern, first, count):
    """Writes clusters through NBD with qemu-io, as a guest would."""
    tool("qemu-io", "-f", "raw", "-c",
         f"write -P {pattern} {first * CLUSTER} {count * CLUSTER}", "-c", "flush",
         f"nbd+unix:///disk0?socket={socket}")


def make_old_image(daemon):
    """One whose names are Latin-1, as old systems wrote them."""
    path = daemon.path("old.qcow2")
    base = os.fsencode(daemon.folder) + b"/d\xe9but.raw"
    tool("qemu-img", "create", "-q", "-f", "raw", base, str(SIZE))
    tool("qemu-img", "create", "-q", "-f", "qcow2", path, str(SIZE))
    tool("qemu-img", "snapshot", "-c", b"mise \xe0 jour", path)
    for name in (b"r\xe9", b"r\xe8"):
        tool("qemu-img", "bitmap", "--add", path, name)
    tool("qemu-img", "rebase", "-u", "-F", "raw", "-b", base, path)
    return path


def read_old_image(client, path, instance):
    """Every reply is text; two names that look the same are confused with nothing."""
    client.call("NodeService", "BlockdevAdd", {"instance": instance, "options": {
        "node_name": "old",
        "qcow2": {"file": {"definition": {"file": {"filename": path}}}}}})
    nodes = client.call("NodeService", "QueryNamedBlockNodes", {"instance": instance})["nodes"]
    old = [node for node in nodes if node["node_name"] == "old"][0]
    assert old["image"]["snapshots"][0]["name"] == "mise \ufffd jour", old
    assert old["image"]["backing_filename"].endswith("/d\ufffdbut.raw"), old
    assert old["image"]["backing_image"]["filename"].endswith("/d\ufffdbut.raw"), old
    assert [bitmap["name"] for bitmap in old["dirty_bitmaps"]] == ["r\ufffd", "r\ufffd"], old
    try:
        client.call("BitmapService", "BlockDirtyBitmapClear",
                    {"instance": instance, "node": "old", "name": "r\ufffd"})
    except client.Refused as refused:
        assert refused.code == "NOT_FOUND" and "r\ufffd" in refused.message, refused
        assert instance or "qemu-img bitmap" in refused.message, refused
    else:
        raise AssertionError("one of two bitmaps was chosen")
    client.call("NodeService", "BlockdevDel", {"instance": instance, "node_name": "old"})


def storage_daemons():
    """Commands of the QEMUs at hand, by the name that an instance gets: Debian's, and the newer one."""
    daemons = {"vm": ["qemu-storage-daemon"]}
    newer = os.environ.get("TIDEMARK_QEMU_10")
    if newer:
        daemons["vm10"] = ["env", f"QEMU_MODULE_DIR={newer}/usr/lib/x86_64-linux-gnu/qemu",
                           f"{newer}/usr/bin/qemu-storage-daemon"]
    else:
        print("left out: QEMU 10, for TIDEMARK_QEMU_10 is not set")
    return daemons


def read_on_machines(client, daemon, path):
    """The same of virtual machines' QEMUs."""
    for name, command in storage_daemons().items():
        socket = daemon.path(name + ".sock")
        qemu = subprocess.Popen([*command, "--chardev",
                                 f"socket,id=c,path={socket},server=on,wait=off", "--monitor", "chardev=c"])
        try:
            client.call("InstanceService", "CreateInstance",
                        {"id": name, "address": {"unix_socket": {"path": socket}}})
            deadline = time.monotonic() + 60
            while client.call("InstanceService", "GetInstance",
                              {"id": name})["instance"].get("state") != "INSTANCE_STATE_READY":
                assert time.monotonic() < deadline, "the instance was not reached"
            read_old_image(client, path, name)
        finally:
            qemu.kill()
            qemu.wait()


def run(client, daemon):
    """`client.call(service, method, body)` takes and gives dicts in proto's JSON with snake_case names;
    `client.events(body)` yields the responses of WatchEvents."""
    for name in ("disk0", "full", "inc0"):
        tool("qemu-img", "create", "-q", "-f", "qcow2", daemon.path(name + ".qcow2"), str(SIZE))
        client.call("NodeService", "BlockdevAdd", {"options": {
            "node_name": name,
            "qcow2": {"file": {"definition": {"file": {"filename": daemon.path(name + ".qcow2")}}}}}})
    socket = daemon.path("nbd.sock")
    client.call("ExportService", "NbdServerStart", {"addr": {"unix_socket": {"path": socket}}})
    client.call("ExportService", "BlockExportAdd",
                {"id": "guest", "node_name": "disk0", "writable": True, "nbd": {}})
    write_as_guest(socket, 1, 0, 20)

    started = client.call("TransactionService", "Transaction", {"actions": [
        {"block_dirty_bitmap_add": {"node": "disk0", "name": "b0", "persistent": True}},
        {"blockdev_backup": {"job_id": "j0", "device": "disk0", "target": "full",
                             "sync": "MIRROR_SYNC_MODE_FULL"}}]})
    expect_success(client, "j0")
    states = []
    for response in client.events({"after": started.get("event_sequence", "0"), "job_ids": ["j0"]}):
        if "job_status_change" in response.get("event", {}):
            states.append(response["event"]["job_status_change"]["status"])
            if states[-1] == "JOB_STATUS_NULL":
                break
    assert states[0] == "JOB_STATUS_CREATED", states

    write_as_guest(socket, 2, 10, 3)
    client.call("JobService", "BlockdevBackup",
                {"job_id": "j1", "device": "disk0", "target": "inc0",
                 "sync": "MIRROR_SYNC_MODE_INCREMENTAL", "bitmap": "b0"})
    expect_success(client, "j1")

    try:
        client.call("NodeService", "BlockdevDel", {"node_name": "nobody"})
    except client.Refused as refused:
        assert refused.code == "NOT_FOUND" and "nobody" in refused.message, refused
    else:
        raise AssertionError("the deletion of an unknown node was accepted")

    old = make_old_image(daemon)
    read_old_image(client, old, "")
    read_on_machines(client, daemon, old)

    client.call("ExportService", "BlockExportDel",
                {"id": "guest", "mode": "BLOCK_EXPORT_REMOVE_MODE_HARD"})
    for name in ("full", "inc0"):
        client.call("NodeService", "BlockdevDel", {"node_name": name})
    daemon.stop()

    tool("qemu-img", "rebase", "-u", "-f", "qcow2", "-F", "qcow2", "-b", daemon.path("full.qcow2"),
         daemon.path("inc0.qcow2"))
    for name in ("disk0", "full", "inc0"):
        tool("qemu-img", "check", daemon.path(name + ".qcow2"))
    tool("qemu-img", "compare", daemon.path("disk0.qcow2"), daemon.path("inc0.qcow2"))
    extents = json.loads(tool("qemu-img", "map", "--output=json", daemon.path("inc0.qcow2")))
    own = [(e["start"], e["length"]) for e in extents if e["depth"] == 0 and e["data"]]
    assert own == [(10 * CLUSTER, 3 * CLUSTER)], own
    bitmaps = json.loads(tool("qemu-img", "info", "--output=json", daemon.path("disk0.qcow2")))
    assert bitmaps["format-specific"]["data"]["bitmaps"][0]["name"] == "b0", bitmaps


def expect_success(client, job):
    waited = client.call("JobService", "WaitJob", {"id": job, "timeout": "50s"})
    assert waited.get("done"), waited
    assert waited["job"]["outcome"] == "JOB_OUTCOME_SUCCEEDED", waited


def main(make_client):
    """Runs the main job; exit status 0 also for a skip, which says why."""
    daemon = None
    try:
        for name in ("qemu-img", "qemu-io", "qemu-storage-daemon"):
            if shutil.which(name) is None:
                raise Skip(f"{name} is not installed")
        daemon = Daemon()
        run(make_client(daemon.address), daemon)
        print("passed")
    except Skip as skip:
        print(f"skipped: {skip}")
        write_skip(str(skip))
    finally:
        if daemon is not None:
            daemon.clear()


def write_skip(reason):
    """Tells the test runner: a skip is no pass."""
    path = os.environ.get("XML_OUTPUT_FILE")
    if not path:
        return
    name = os.path.basename(sys.argv[0])
    with open(path, "w", encoding="utf-8") as file:
        file.write(f'<testsuites><testsuite name="{name}" tests="1" skipped="1"><testcase name="{name}" '
                   f'status="run" result="skipped"><skipped message="{reason}"/></testcase></testsuite>'
                   '</testsuites>\n')
