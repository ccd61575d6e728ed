from __future__ import annotations

import subprocess
import sys

import pytest

PROGRAM = """
import resource, sys, torch
from pullback.host.training.memory import keep_freed_memory
took = keep_freed_memory() if sys.argv[1] == "keep" else False
def faults(n):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(n):
        torch.zeros(48 * 2**20 // 4)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
faults(10)
print(int(took), faults(10))
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc only")
def test_freed_blocks_are_used_again_without_page_faults():
    def run(how: str) -> tuple[int, int]:
        out = subprocess.run([sys.executable, "-c", PROGRAM, how], capture_output=True, text=True, check=True)
        took, faults = out.stdout.split()
        return int(took), int(faults)

    took, with_memory = run("keep")
    if not took:
        pytest.skip("this C library has no mallopt")
    _, usual = run("usual")
    assert with_memory < 0.5 * usual
