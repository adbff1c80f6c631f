#!/usr/bin/env python3
"""A client made of the protos by protoc and gRPC's plugin for Python does the main job.

Not by grpc_tools: Debian's brings a protoc that is older than `optional` in proto3.
"""

import importlib
import os
import shutil
import subprocess
import sys
import tempfile

sys.dont_write_bytecode = True  # The sources are not ours to add to.

import main_job  # noqa: E402

PROTOS = os.path.join(os.environ.get("TEST_SRCDIR", "."), os.environ.get("TEST_WORKSPACE", "."),
                      "proto")


class GeneratedClient:
    """Calls through stub classes that protoc made for Python."""

    class Refused(Exception):
        def __init__(self, error):
            super().__init__(error.details())
            self.code = error.code().name
            self.message = error.details()

    def __init__(self, address, modules):
        import grpc
        from google.protobuf import json_format
        self._grpc = grpc
        self._json = json_format
        self._channel = grpc.insecure_channel(address)
        grpc.channel_ready_future(self._channel).result(timeout=60)
        self._modules = modules

    def _method(self, service, method):
        """The stub's callable, and the class of its request."""
        for messages, stubs in self._modules:
            stub = getattr(stubs, service + "Stub", None)
            if stub is None:
                continue
            description = messages.DESCRIPTOR.services_by_name[service].methods_by_name[method]
            request = description.input_type._concrete_class
            return getattr(stub(self._channel), method), request
        raise AssertionError(f"no stub for {service}")

    def call(self, service, method, body):
        function, request = self._method(service, method)
        try:
            response = function(self._json.ParseDict(body, request()), timeout=60)
        except self._grpc.RpcError as error:
            raise self.Refused(error) from error
        return self._json.MessageToDict(response, preserving_proto_field_name=True)

    def events(self, body):
        function, request = self._method("EventService", "WatchEvents")
        for response in function(self._json.ParseDict(body, request()), timeout=60):
            yield self._json.MessageToDict(response, preserving_proto_field_name=True)


def generate(folder):
    """Writes Python modules for every proto into `folder`; pairs of (messages, stubs)."""
    plugin = shutil.which("grpc_python_plugin")
    if shutil.which("protoc") is None or plugin is None:
        raise main_job.Skip("protoc or grpc_python_plugin is not installed")
    try:
        import grpc  # noqa: F401
        import google.protobuf  # noqa: F401
    except ImportError as error:
        raise main_job.Skip(str(error)) from error
    sources = ["qmp/options.proto"] + [
        "tidemark/block/v1/" + name
        for name in sorted(os.listdir(os.path.join(PROTOS, "tidemark/block/v1")))
        if name.endswith(".proto")]
    subprocess.run(["protoc", "-I", PROTOS, "--plugin=protoc-gen-grpc=" + plugin,
                    "--python_out=" + folder, "--grpc_out=" + folder, *sources], check=True)
    sys.path.insert(0, folder)
    names = [source[:-len(".proto")].replace("/", ".") for source in sources]
    return [(importlib.import_module(name + "_pb2"), importlib.import_module(name + "_pb2_grpc"))
            for name in names if name.startswith("tidemark")]


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as generated:
        main_job.main(lambda address: GeneratedClient(address, generate(generated)))
