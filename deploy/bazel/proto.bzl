"""Protocol buffers and gRPC stubs with Debian's protoc and grpc_cpp_plugin."""

# Protoc is run from the folder `proto`, so an import reads "qmp/options.proto" in a .proto file and
# #include "qmp/options.pb.h" in C++.
_ROOT = "proto/"

def tidemark_proto_library(name, srcs, deps = [], grpc = False, visibility = None):
    """A C++ library of the messages of `srcs` and, with `grpc`, of their services.

    Args:
      name: the library.
      srcs: .proto files of this package.
      deps: other tidemark_proto_library targets that `srcs` import.
      grpc: whether `srcs` hold services.
      visibility: as everywhere.
    """
    path = native.package_name()[len(_ROOT):]
    stems = [source[:-len(".proto")] for source in srcs]
    suffixes = [".pb"] + ([".grpc.pb"] if grpc else [])
    headers = [stem + suffix + ".h" for stem in stems for suffix in suffixes]
    sources = [stem + suffix + ".cc" for stem in stems for suffix in suffixes]
    plugin = "--grpc_out=$(RULEDIR)/{up} --plugin=protoc-gen-grpc=/usr/bin/grpc_cpp_plugin ".format(
        up = "/".join([".." for _ in path.split("/")]),
    ) if grpc else ""
    native.filegroup(
        name = name + "_sources",
        srcs = srcs + [dep + "_sources" for dep in deps],
        visibility = visibility,
    )
    native.genrule(
        name = name + "_generate",
        srcs = [":" + name + "_sources"],
        outs = headers + sources,
        cmd = "/usr/bin/protoc -I proto --cpp_out=$(RULEDIR)/{up} {plugin}{files}".format(
            up = "/".join([".." for _ in path.split("/")]),
            plugin = plugin,
            files = " ".join([native.package_name() + "/" + source for source in srcs]),
        ),
    )
    native.cc_library(
        name = name,
        srcs = sources,
        hdrs = headers,
        # Generated code is not held to our warnings.
        copts = ["-w"],
        strip_include_prefix = "/" + _ROOT.rstrip("/"),
        visibility = visibility,
        deps = deps + [
            "//deploy/bazel/system:protobuf",
        ] + (["//deploy/bazel/system:grpcpp"] if grpc else []),
    )
