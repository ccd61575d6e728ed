"""How this program was started, so that a command it prints runs where it is pasted."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from collections.abc import Sequence


def command_line(words: Sequence[str]) -> str:
    """The shell command that runs `words`, a command line of launch.py, as this process was started.

    `python launch.py …` where launch.py, or another script, was run; else `pullback launch …`. A program that PATH does
    not lead to is written with its path.
    """
    script = sys.argv[0]
    if script.endswith(".py") and os.path.basename(script) != "__main__.py":
        start = [_written("python", sys.executable), script]
    elif os.path.basename(script) == "pullback":
        start = [_written("pullback", script), "launch"]
    else:
        start = [_written("python", sys.executable), "-m", "pullback", "launch"]
    return shlex.join([*start, *words])


def _written(name: str, program: str) -> str:
    """`name` where PATH leads to `program` by it, else `program`."""
    found = shutil.which(name)
    return name if found is not None and os.path.abspath(found) == os.path.abspath(program) else program
