"""Fuzz targets: one source, a short run in every test, a long one by libFuzzer."""

def fuzz_target(name, srcs, deps, corpus):
    """Makes NAME_replay_test (replays and damages the corpus; any compiler) and NAME_fuzzer.

    Args:
      name: what is fuzzed.
      srcs: the file that defines LLVMFuzzerTestOneInput.
      deps: what it is made of.
      corpus: the folder of its first inputs, below this package.
    """
    native.cc_library(
        name = name + "_fuzz_target",
        testonly = True,
        srcs = srcs,
        deps = deps + [":fuzz_target"],
        alwayslink = True,
    )
    native.cc_test(
        name = name + "_replay_test",
        size = "medium",
        args = ["$(rootpath :%s_corpus)" % name],
        data = [":%s_corpus" % name],
        deps = [
            ":%s_fuzz_target" % name,
            ":replay_main",
        ],
    )
    native.filegroup(
        name = name + "_corpus",
        testonly = True,
        srcs = [corpus],
    )

    # Only with --config=fuzz, which is clang: libFuzzer has the main function.
    native.cc_binary(
        name = name + "_fuzzer",
        testonly = True,
        linkopts = ["-fsanitize=fuzzer"],
        tags = ["manual"],
        deps = [":%s_fuzz_target" % name],
    )
