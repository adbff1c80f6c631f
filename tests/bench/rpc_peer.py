"""tidemarkd over one gRPC connection that lasts, asked in QMP's words: what is measured is the daemon, not the
start of a client. Needs python3-grpcio and python3-protobuf; the API is learnt by reflection."""

import os
import sys

import peers

sys.path.insert(0, os.path.join(os.path.dirname(os.path.realpath(__file__)), "..", "clients"))
import reflection_client_test  # noqa: E402 pylint: disable=wrong-import-position

# The RPC of each command that a bench sends.
SERVICES = {
    "BitmapService": ["block-dirty-bitmap-add", "block-dirty-bitmap-remove"],
    "ExportService": ["block-export-add", "nbd-server-start", "query-block-exports"],
    "JobService": ["block-job-set-speed", "blockdev-backup", "job-cancel", "job-pause",
                   "job-resume", "query-jobs"],
    "NodeService": ["blockdev-add", "blockdev-del", "query-named-block-nodes"],
}
# The response's member that is QMP's `return`.
LISTS = {"query-block-exports": "exports", "query-jobs": "jobs", "query-named-block-nodes": "nodes"}


def snake(members):
    return {name.replace("-", "_"): value for name, value in members.items()}


def block_options(options):
    """BlockdevOptions: the driver's own members are in a message that bears its name."""
    options = dict(options)
    common = {name: options.pop(name) for name in ("node-name", "read-only", "discard")
              if name in options}
    if "discard" in common:
        common["discard"] = "BLOCKDEV_DISCARD_OPTIONS_" + common["discard"].upper()
    driver = options.pop("driver").replace("-", "_")
    if "file" in options:
        options["file"] = {"definition": block_options(options["file"])}
    if "backing" in options and options["backing"] is None:
        options["backing"] = {"none": {}}
    return {**snake(common), driver: snake(options)}


def method(command):
    """The service and the method for one of QMP's commands."""
    service = next(name for name, commands in SERVICES.items() if command in commands)
    return service, "".join(word.title() for word in command.split("-"))


def body(command, arguments):
    if command == "blockdev-add":
        return {"options": block_options(arguments)}
    if command == "nbd-server-start":
        return {"addr": {"unix_socket": arguments["addr"]["data"]}}
    members = snake(arguments)
    if command == "block-export-add":
        members[members.pop("type")] = {}
    if "sync" in members:
        members["sync"] = "MIRROR_SYNC_MODE_" + members["sync"].upper()
    return members


class RpcTidemark(peers.Daemon):
    """Ours. As peers.StorageDaemon: `prepare` makes a call that can be repeated, `parse` reads its answer."""

    name = "tidemark"

    def __init__(self, daemon, folder):
        path = f"{folder}/tidemark-rpc.sock"
        super().__init__([daemon, "--listen", f"unix:{path}"], path)
        self.client = reflection_client_test.ReflectionClient(f"unix:{path}")

    def prepare(self, command, arguments):
        return self.client.prepare(*method(command), body(command, arguments))

    def parse(self, command, answer):
        response = self.client.parse(*method(command), answer)
        if command not in LISTS:
            return response
        return [{name.replace("_", "-"): value for name, value in element.items()}
                for element in response.get(LISTS[command], [])]

    def call(self, command, arguments):
        return self.parse(command, self.prepare(command, arguments)())
