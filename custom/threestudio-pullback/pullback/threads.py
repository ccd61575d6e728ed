"""Threads that sleep while they wait, in the commands of this package.

PyTorch's threads wait for each other in every operation, by default awake. Beside another busy process, the thread that
is waited for does then not get its core back: a call of the shipped network took 1,200 ms instead of 60. OpenMP reads
its setting when it is loaded, with torch, so the package's __init__ calls this first.
"""

from __future__ import annotations

import os
import sys


def wait_asleep() -> None:
    """Sets OMP_WAIT_POLICY to passive, unless the user has set it; it takes effect if torch is not yet loaded."""
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")


def is_command() -> bool:
    """Whether this process was started as `pullback` or `python -m pullback`, and not as another program."""
    program = os.path.basename((getattr(sys, "argv", None) or [""])[0])
    return program in ("pullback", "pullback.exe", "-m")  # during the import of a package, -m stands for its __main__
