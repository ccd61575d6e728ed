"""What evaluations of many runs share: workers that do not outlive their parent."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

PARENT = """
import sys
sys.path[:0] = [{tests!r}]
from pullback.evaluate import campaign
import test_runs
if __name__ == "__main__":
    list(campaign.each(test_runs.note_and_wait, [({folder!r}, 0), ({folder!r}, 1)], 2))
"""


def note_and_wait(folder: str, number: int) -> None:
    Path(folder, f"{number}.pid").write_text(str(os.getpid()))
    time.sleep(600)


def alive(pid: int) -> bool:
    stat = Path(f"/proc/{pid}/stat")
    return stat.exists() and stat.read_text().rpartition(")")[2].split()[0] != "Z"


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc to see other processes")
@pytest.mark.parametrize("sent", [signal.SIGKILL, signal.SIGTERM])
def test_workers_end_with_a_parent_that_is_killed(tmp_path: Path, sent: signal.Signals) -> None:
    script = tmp_path / "parent.py"
    script.write_text(PARENT.format(tests=str(Path(__file__).parent), folder=str(tmp_path)))
    parent = subprocess.Popen([sys.executable, str(script)])
    deadline = time.monotonic() + 120
    while len(notes := list(tmp_path.glob("*.pid"))) < 2 or not all(note.read_text() for note in notes):
        assert parent.poll() is None and time.monotonic() < deadline
        time.sleep(0.1)
    pids = [int(note.read_text()) for note in notes]
    assert all(alive(pid) for pid in pids)
    parent.send_signal(sent)
    parent.wait()
    while any(alive(pid) for pid in pids):
        assert time.monotonic() < deadline, "workers run on without their parent"
        time.sleep(0.1)
