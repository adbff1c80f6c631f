#!/usr/bin/env python3
"""Style that matters is a test: include directions, file lengths, comments, scenarios, format.

Runs on the source tree itself, which it finds through the WORKSPACE file among its data.
"""

import os
import re
import shutil
import subprocess
import sys
import unittest

ROOT = os.path.dirname(os.path.realpath(os.path.join(os.environ.get("TEST_SRCDIR", "."),
                                                     os.environ.get("TEST_WORKSPACE", "."),
                                                     "WORKSPACE")))
LINES_MAX = 500
COLUMNS_MAX = 100

# Which folders a file may include from, by the longest folder that its path starts with. "proto" stands for
# generated headers, "grpc" for gRPC, "json" for JSON libraries. Every folder may include from itself.
_ENGINE_LEFT_TO_RIGHT = ["engine/base", "engine/storage", "engine/format", "engine/bitmap",
                         "engine/graph", "engine/copy", "engine/job"]
MAY_USE = {
    "engine/base": [],
    "engine/backend": ["engine/base", "proto"],
    "engine/storage": ["engine/base"],
    "engine/format": ["engine/base", "engine/storage"],
    "engine/bitmap": ["engine/base", "engine/storage"],
    "engine/graph": _ENGINE_LEFT_TO_RIGHT[:4],
    "engine/copy": _ENGINE_LEFT_TO_RIGHT[:5],
    "engine/job": _ENGINE_LEFT_TO_RIGHT[:6],
    "engine/transaction": _ENGINE_LEFT_TO_RIGHT,
    "engine/nbd": _ENGINE_LEFT_TO_RIGHT,
    "engine/native": ["engine", "proto"],
    "adapters/qmp": ["engine/backend", "engine/base", "proto", "json"],
    "adapters/store": ["engine/backend", "engine/base", "proto"],
    "service/shared": [],
    "service/dispatch": ["engine/backend", "engine/base", "proto"],
    "service/rpc": ["service/dispatch", "engine/backend", "engine/base", "proto", "grpc"],
    # Of adapters/qmp only the transcoder between messages and JSON, which knows no QEMU.
    "service/cli": ["adapters/qmp", "service/shared", "engine/base", "proto", "grpc"],
    "service": ["service", "engine", "adapters", "proto", "grpc", "json"],
    "tests": ["service", "engine", "adapters", "proto", "grpc", "json", "tests"],
}
# Tests may reach for what their package may not: a fake from another one, a judge.
TEST_MAY_ALSO_USE = ["engine/base", "engine/storage", "engine/bitmap", "engine/format", "json"]

BANNED = [r"\bTODO\b", r"\bFIXME\b", r"\bXXX\b"]


def tracked(*suffixes):
    files = []
    for folder, folders, names in os.walk(ROOT):
        folders[:] = [f for f in folders
                      if f != ".git" and not f.startswith("bazel-") and f != ".quickstart"]
        for name in names:
            path = os.path.relpath(os.path.join(folder, name), ROOT)
            if path.endswith(suffixes):
                files.append(path)
    return sorted(files)


def read(path):
    with open(os.path.join(ROOT, path), encoding="utf-8") as file:
        return file.read()


def kind_of_include(name):
    if re.match(r"(qmp|tidemark|google/rpc)/.*\.pb\.h$", name) or name.startswith("google/protobuf/"):
        return "proto"
    if name.startswith(("grpc/", "grpcpp/")):
        return "grpc"
    if name.startswith("nlohmann/"):
        return "json"
    if name.startswith(("engine/", "service/", "adapters/", "tests/")):
        return os.path.dirname(name)
    return None


def within(folder, allowed):
    return any(folder == place or folder.startswith(place + "/") for place in allowed)


def declarations_without_comment(text):
    """Messages, enums, values, fields and RPCs with no comment above them or on their line."""
    text = re.sub(r'"(\\.|[^"\\])*"', '""', text)
    previous_is_comment = False
    depth_of_options = 0
    for number, line in enumerate(text.splitlines(), 1):
        bare = line.strip()
        if depth_of_options > 0:
            depth_of_options += bare.count("[") + bare.count("{") - bare.count("]") - bare.count("}")
            continue
        declares = re.match(
            r"(message|enum|service|rpc|extend)\b"
            r"|((optional|repeated)\s+)?[\w.]+(<.*>)?\s+\w+\s*=\s*\d+"
            r"|[A-Z][A-Z0-9_]*\s*=\s*-?\d+", bare)
        if declares and not bare.startswith(("option ", "syntax", "reserved", "extend")):
            if not previous_is_comment and "//" not in bare:
                yield number, bare
            code = bare.split("//")[0]
            if "[" in code and "]" not in code:
                depth_of_options = code.count("[") + code.count("{") - code.count("}")
        previous_is_comment = bare.startswith("//")


class Tidy(unittest.TestCase):

    def assert_none(self, faults):
        self.assertFalse(faults, "\n" + "\n".join(faults))

    def test_the_tree_is_where_it_is_looked_for(self):
        self.assertTrue(os.path.exists(os.path.join(ROOT, "engine", "backend", "backend.h")), ROOT)

    def test_includes_go_only_where_they_may(self):
        faults = []
        for path in tracked(".h", ".cc"):
            owner = max((p for p in MAY_USE if path.startswith(p + "/")), key=len, default=None)
            if owner is None:
                faults.append(f"{path}: no rule for its folder")
                continue
            allowed = MAY_USE[owner] + [owner]
            if path.endswith(("_test.cc", "_bench.cc")) or "/testing/" in path:
                allowed = allowed + TEST_MAY_ALSO_USE
            for name in re.findall(r'^#include ["<]([^">]+)[">]', read(path), flags=re.M):
                kind = kind_of_include(name)
                if kind and not within(kind, allowed):
                    faults.append(f"{path}: may not include {name}")
        self.assert_none(faults)

    def test_files_are_short_and_lines_are_narrow(self):
        faults = []
        for path in tracked(".h", ".cc", ".proto", ".bzl", ".py"):
            lines = read(path).splitlines()
            if len(lines) > LINES_MAX:
                faults.append(f"{path}: {len(lines)} lines, more than {LINES_MAX}: split by noun")
            if path.endswith((".h", ".cc")):
                faults += [f"{path}:{number}: {len(line)} columns" for number, line in
                           enumerate(lines, 1) if len(line) > COLUMNS_MAX and "http" not in line]
        self.assert_none(faults)

    def test_headers_open_by_saying_what_they_are(self):
        faults = []
        for path in tracked(".h"):
            text = read(path)
            guard = re.sub(r"[^A-Za-z0-9]", "_", path).upper() + "_"
            if not text.startswith("// "):
                faults.append(f"{path}: does not open with a comment")
            if f"#ifndef {guard}\n#define {guard}\n" not in text:
                faults.append(f"{path}: header guard is not {guard}")
        self.assert_none(faults)

    def test_every_declaration_in_a_proto_has_a_comment(self):
        faults = []
        for path in tracked(".proto"):
            faults += [f"{path}:{number}: no comment: {text}"
                       for number, text in declarations_without_comment(read(path))]
        self.assert_none(faults)

    def test_every_rpc_has_a_scenario(self):
        scenarios = "".join(read(path) for path in tracked(".cc", ".h") if
                            path.startswith(("tests/conformance/", "tests/guest/")))
        faults = []
        for path in tracked(".proto"):
            for rpc in re.findall(r"^\s*rpc (\w+)", read(path), flags=re.M):
                if not re.search(rf"\b{rpc}\w*\b", scenarios):
                    faults.append(f"{path}: rpc {rpc} is in no scenario of tests/conformance "
                                  "or tests/guest")
        self.assert_none(faults)

    def test_nothing_is_left_for_later(self):
        faults = []
        for path in tracked(".h", ".cc", ".proto", ".sh", ".bzl"):
            for number, line in enumerate(read(path).splitlines(), 1):
                if any(re.search(word, line) for word in BANNED):
                    faults.append(f"{path}:{number}: {line.strip()}")
        self.assert_none(faults)

    @unittest.skipUnless(shutil.which("clang-format"), "clang-format is not installed")
    def test_sources_are_formatted(self):
        files = tracked(".h", ".cc")
        result = subprocess.run(["clang-format", "--dry-run", "-Werror", *files], cwd=ROOT,
                                capture_output=True, text=True, check=False)
        self.assertEqual(result.returncode, 0, result.stderr[:4000])


if __name__ == "__main__":
    unittest.main(argv=sys.argv[:1], verbosity=2)
