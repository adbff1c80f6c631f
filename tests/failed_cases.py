"""What failed cases printed, cut out of a test's whole log.

A shard of a big test prints hundreds of passed cases before the one that matters; a log that is kept only in part
then loses it.
"""

import re

# Of each piece: enough for an assertion with its trace, and for the stack of a crash.
MAX_LINES = 150

RUN = re.compile(r"^\[ RUN      \] (\S+)")
END = re.compile(r"^\[\s+(OK|FAILED|SKIPPED)\s+\] (\S+)")


def shorten(lines):
    """The lines, or their beginning and end around a count of what is left out."""
    if len(lines) <= MAX_LINES:
        return lines
    head, tail = MAX_LINES // 3, MAX_LINES - MAX_LINES // 3
    return lines[:head] + [f"... {len(lines) - MAX_LINES} lines left out ..."] + lines[-tail:]


def failed_cases(lines):
    """The pieces of a GoogleTest log that belong to failed cases, and to one that never ended.

    A log of anything else, or of a test that ended outside its cases, is one piece: its end.
    """
    pieces = []
    piece = None
    for line in lines:
        if RUN.match(line):
            piece = []
        if piece is None:
            continue
        piece.append(line)
        end = END.match(line)
        if end:
            if end.group(1) == "FAILED":
                pieces.append(shorten(piece))
            piece = None
    if piece:
        pieces.append(shorten(piece))
    return pieces or [lines[-MAX_LINES:]]


def print_failed_cases(label, log_path):
    """Prints them under the test's label; a log that cannot be read is said to be so."""
    try:
        with open(log_path, encoding="utf-8", errors="replace") as log:
            lines = log.read().splitlines()
    except OSError as error:
        print(f"==== {label}: no log ({error})")
        return
    for piece in failed_cases(lines):
        print(f"==== {label}")
        print("\n".join(piece))
