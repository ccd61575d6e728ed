"""A command in a process of its own, with a log, its exit status and what it cost."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path


def run_logged(command: list[str], log: Path, threads: int, cwd: Path | None = None) -> tuple[int, int]:
    """Runs it, its words added to the log; exit status, and peak memory in MB (an upper bound).

    Where this is interrupted, it is asked to end, and waited for: a run of launch.py then saves its last whole step.
    """
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    with log.open("a") as stream:
        process = subprocess.Popen(command, cwd=cwd, stdout=stream, stderr=subprocess.STDOUT, env=environment)
        try:
            _, status, usage = os.wait4(process.pid, 0)
        except BaseException:
            process.terminate()
            process.wait()
            raise
    process.returncode = os.waitstatus_to_exitcode(status)
    return process.returncode, round(usage.ru_maxrss / 1024)
