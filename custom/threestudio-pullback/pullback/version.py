"""Version and git commit of the source, for logs and reports."""

from __future__ import annotations

import functools
import os
import subprocess

__version__ = "0.1.0"


@functools.cache
def commit() -> str:
    """The short git commit of this package's source; 'unknown' where git does not track it, as in a copy."""
    folder, file = os.path.split(os.path.realpath(__file__))
    # the second alone would take the commit of whatever repository a copy of the package lies in
    for command in (["ls-files", "--error-unmatch", file], ["rev-parse", "--short", "HEAD"]):
        try:
            done = subprocess.run(["git", "-C", folder, *command], capture_output=True, text=True, timeout=10)
        except (OSError, subprocess.TimeoutExpired):
            return "unknown"
        if done.returncode:
            return "unknown"
    return done.stdout.strip()


def describe() -> str:
    """'threestudio-pullback VERSION, commit HASH'. It calls git: use it at a run's start, not in an import."""
    return f"threestudio-pullback {__version__}, commit {commit()}"
