"""Protocol buffers and gRPC stubs with Debian's protoc and grpc_cpp_plugin."""

# Protoc is run from the folder `proto`, so an import reads "qmp/options.proto" in a .proto file and
# #include "qmp/options.pb.h" in C++.
_ROOT = "proto/"

def _library(name, stems, suffix, visibility, deps):
    native.cc_library(
        name = name,
        srcs = [stem + suffix + ".cc" for stem in stems],
        hdrs = [stem + suffix + ".h" for stem in stems],
        # A file that holds only services is reached by its name alone.
        alwayslink = True,
        # Generated code is not held to our warnings.
        copts = ["-w"],
        strip_include_prefix = "/" + _ROOT.rstrip("/"),
        visibility = visibility,
        deps = deps,
    )

def tidemark_proto_library(name, srcs, deps = [], grpc_srcs = [], visibility = None):
    """A C++ library of the messages of `srcs`.

    With `grpc_srcs` also <name>_grpc, the stubs and service classes of those. Always also
    <name>_descriptors, a file <name>.binpb: a FileDescriptorSet with comments and all imports.

    Args:
      name: the library of messages; it links no gRPC.
      srcs: .proto files of this package.
      deps: other tidemark_proto_library targets that `srcs` import.
      grpc_srcs: those of `srcs` that hold services.
      visibility: as everywhere, for all of them.
    """
    package = native.package_name()
    up = "/".join([".." for _ in package[len(_ROOT):].split("/")])
    files = " ".join([package + "/" + source for source in srcs])
    stems = [source[:-len(".proto")] for source in srcs]
    native.filegroup(
        name = name + "_sources",
        srcs = srcs + [dep + "_sources" for dep in deps],
        visibility = visibility,
    )
    native.genrule(
        name = name + "_generate",
        srcs = [":" + name + "_sources"],
        outs = [stem + ".pb" + end for stem in stems for end in (".h", ".cc")],
        cmd = "/usr/bin/protoc -I proto --cpp_out=$(RULEDIR)/" + up + " " + files,
    )
    native.genrule(
        name = name + "_descriptors",
        srcs = [":" + name + "_sources"],
        outs = [name + ".binpb"],
        cmd = "/usr/bin/protoc -I proto --include_imports --include_source_info " +
              "--descriptor_set_out=$@ " + files,
        visibility = visibility,
    )
    _library(name, stems, ".pb", visibility, deps + ["//deploy/bazel/system:protobuf"])
    if grpc_srcs:
        grpc_stems = [source[:-len(".proto")] for source in grpc_srcs]
        native.genrule(
            name = name + "_grpc_generate",
            srcs = [":" + name + "_sources"],
            outs = [stem + ".grpc.pb" + end for stem in grpc_stems for end in (".h", ".cc")],
            cmd = "/usr/bin/protoc -I proto --grpc_out=$(RULEDIR)/" + up +
                  " --plugin=protoc-gen-grpc=/usr/bin/grpc_cpp_plugin " +
                  " ".join([package + "/" + source for source in grpc_srcs]),
        )
        _library(name + "_grpc", grpc_stems, ".grpc.pb", visibility, [
            ":" + name,
            "//deploy/bazel/system:grpcpp",
        ])
