#!/usr/bin/env python3
"""A client that knows nothing but the address learns the API by reflection and does the main job.

Debian has no package of grpc_reflection for Python, so the few messages of the reflection protocol are
described here by hand.
"""

import sys

sys.dont_write_bytecode = True  # The sources are not ours to add to.

import main_job  # noqa: E402

SERVICES = ["BitmapService", "DeviceService", "EventService", "ExportService", "InstanceService",
            "JobService", "MachineService", "NodeService", "ObjectService", "TransactionService"]


def reflection_messages():
    """Classes of ServerReflectionRequest and ServerReflectionResponse (grpc.reflection.v1alpha)."""
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
    file = descriptor_pb2.FileDescriptorProto(name="reflection.proto", package="grpc.reflection.v1alpha",
                                              syntax="proto3")
    field_type = descriptor_pb2.FieldDescriptorProto
    one, many = field_type.LABEL_OPTIONAL, field_type.LABEL_REPEATED

    def message(name, *fields):
        made = file.message_type.add(name=name)
        for number, (field, label, kind) in fields:
            made.field.add(name=field, number=number, label=label,
                           **({"type": kind} if isinstance(kind, int) else
                              {"type": field_type.TYPE_MESSAGE,
                               "type_name": ".grpc.reflection.v1alpha." + kind}))

    text, blob = field_type.TYPE_STRING, field_type.TYPE_BYTES
    message("ServerReflectionRequest", (3, ("file_by_filename", one, text)),
            (4, ("file_containing_symbol", one, text)), (7, ("list_services", one, text)))
    message("FileDescriptorResponse", (1, ("file_descriptor_proto", many, blob)))
    message("ServiceResponse", (1, ("name", one, text)))
    message("ListServiceResponse", (1, ("service", many, "ServiceResponse")))
    message("ErrorResponse", (2, ("error_message", one, text)))
    message("ServerReflectionResponse",
            (4, ("file_descriptor_response", one, "FileDescriptorResponse")),
            (6, ("list_services_response", one, "ListServiceResponse")),
            (7, ("error_response", one, "ErrorResponse")))
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    made = message_factory.MessageFactory(pool)
    return [made.GetPrototype(pool.FindMessageTypeByName("grpc.reflection.v1alpha." + name))
            for name in ("ServerReflectionRequest", "ServerReflectionResponse")]


class ReflectionClient:
    """Calls methods by descriptors that the server gave."""

    class Refused(Exception):
        def __init__(self, error):
            super().__init__(error.details())
            self.code = error.code().name
            self.message = error.details()

    def __init__(self, address):
        import grpc
        from google.protobuf import descriptor_pool, json_format, message_factory
        self._grpc = grpc
        self._json = json_format
        self._channel = grpc.insecure_channel(address)
        grpc.channel_ready_future(self._channel).result(timeout=60)
        self._request, self._response = reflection_messages()
        self._pool = descriptor_pool.DescriptorPool()
        self._known = set()
        self._factory = message_factory.MessageFactory(self._pool)
        listed = {s.name for s in self._reflect(list_services="").list_services_response.service}
        missing = {"tidemark.block.v1." + name for name in SERVICES} - listed
        assert not missing, f"reflection does not list {missing}"
        for name in SERVICES:
            self._learn(file_containing_symbol="tidemark.block.v1." + name)

    def _reflect(self, **question):
        call = self._channel.stream_stream(
            "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
            request_serializer=self._request.SerializeToString,
            response_deserializer=self._response.FromString)
        request = self._request(**question)
        if "list_services" in question:
            request.list_services = "*"
        answer = next(iter(call(iter([request]), timeout=60)))
        assert not answer.error_response.error_message, answer
        return answer

    def _learn(self, **question):
        """Adds a file and, before it, all that it imports."""
        from google.protobuf import descriptor_pb2
        for blob in self._reflect(**question).file_descriptor_response.file_descriptor_proto:
            file = descriptor_pb2.FileDescriptorProto.FromString(blob)
            if file.name in self._known:
                continue
            self._known.add(file.name)
            for imported in file.dependency:
                if imported not in self._known:
                    self._learn(file_by_filename=imported)
            self._pool.Add(file)

    def _method(self, service, method):
        name = "tidemark.block.v1." + service
        description = self._pool.FindServiceByName(name).methods_by_name[method]
        return (f"/{name}/{method}", self._factory.GetPrototype(description.input_type),
                self._factory.GetPrototype(description.output_type))

    def prepare(self, service, method, body):
        """A function that makes the call, any number of times, and gives the serialised response."""
        path, request, _ = self._method(service, method)
        function = self._channel.unary_unary(path, request_serializer=request.SerializeToString)
        message = self._json.ParseDict(body, request())

        def call():
            try:
                return function(message, timeout=60)
            except self._grpc.RpcError as error:
                raise self.Refused(error) from error

        return call

    def parse(self, service, method, serialised):
        """A response as call() gives it."""
        return self._dict(self._method(service, method)[2].FromString(serialised))

    def call(self, service, method, body):
        return self.parse(service, method, self.prepare(service, method, body)())

    def events(self, body):
        path, request, response = self._method("EventService", "WatchEvents")
        function = self._channel.unary_stream(path, request_serializer=request.SerializeToString,
                                              response_deserializer=response.FromString)
        for answer in function(self._json.ParseDict(body, request()), timeout=60):
            yield self._dict(answer)

    def _dict(self, message):
        return self._json.MessageToDict(message, preserving_proto_field_name=True)


def make_client(address):
    try:
        import grpc  # noqa: F401
        import google.protobuf  # noqa: F401
    except ImportError as error:
        raise main_job.Skip(str(error)) from error
    return ReflectionClient(address)


if __name__ == "__main__":
    main_job.main(make_client)
