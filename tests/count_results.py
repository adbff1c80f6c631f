"""Counts the test cases of one `bazel test` run, and prints what the failed ones said.

usage: count_results.py BUILD_EVENTS_FILE BAZEL_EXIT_STATUS

Reads Bazel's build events for the test targets that ran, and each target's test.xml for its cases. A target
that failed without saying which case (it crashed, timed out or did not build) counts as one failure.
"""

import json
import sys
import urllib.parse
import xml.etree.ElementTree as ElementTree

from failed_cases import print_failed_cases


def outcome_of_case(case):
    if case.find("failure") is not None or case.find("error") is not None:
        return "failed"
    if case.find("skipped") is not None or case.get("result") == "skipped":
        return "skipped"
    if case.get("status") == "notrun":
        return None
    return "passed"


def count_xml(path, counts):
    """Adds the cases of one test.xml; returns how many of them failed."""
    try:
        root = ElementTree.parse(path).getroot()
    except (OSError, ElementTree.ParseError):
        return 0
    failed = 0
    for case in root.iter("testcase"):
        outcome = outcome_of_case(case)
        if outcome:
            counts[outcome] += 1
            failed += outcome == "failed"
    return failed


def path_of(uri):
    return urllib.parse.unquote(urllib.parse.urlparse(uri).path)


def count_target(label, result, counts):
    paths = {output["name"]: path_of(output["uri"]) for output in result.get("testActionOutput", [])}
    failed = count_xml(paths["test.xml"], counts) if "test.xml" in paths else 0
    if result["status"] in ("PASSED", "FLAKY"):
        return
    if failed == 0:
        counts["failed"] += 1
        print(f"failed as a whole: {label} ({result['status']})")
    print_failed_cases(label, paths.get("test.log", ""))


def main():
    events_path, bazel_status = sys.argv[1], int(sys.argv[2])
    counts = {"passed": 0, "failed": 0, "skipped": 0}
    with open(events_path, encoding="utf-8", errors="replace") as events:
        for line in events:
            event = json.loads(line)
            # One event per attempt of a test target.
            if "testResult" in event:
                count_target(event["id"]["testResult"]["label"], event["testResult"], counts)
    if bazel_status != 0 and counts["failed"] == 0:
        # A build error, or no test at all.
        counts["failed"] += 1
        print(f"bazel ended with status {bazel_status}")
    print("{passed} passed, {failed} failed, {skipped} skipped".format(**counts))
    return 1 if counts["failed"] else 0


if __name__ == "__main__":
    sys.exit(main())
