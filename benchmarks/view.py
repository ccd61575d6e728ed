"""What `--view` costs a run: CPU time of a visit without it, with it and nobody looking, and with a browser that looks.

    python benchmarks/view.py [key=value …]

CPU time of the run's own process, all threads: the browser draws by software here, which a machine with a GPU does not.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path.append(str(ROOT / "tests"))
SKIPPED = 4  # first visits, in which kernels are loaded
SMALL = ("system.guidance.levels=20", "system.guidance.cycles=1", "data.n_test_views=1", "trainer.limit_val_batches=0")


def child(out: Path, words: list[str]) -> int:
    """Runs a command line of launch.py, and writes the CPU and wall time after each visit."""
    from pullback.host import launch
    from pullback.host.training.callbacks import ProgressLine

    times: list[tuple[float, float]] = []
    setattr(ProgressLine, "on_train_batch_end", lambda *_: times.append((time.process_time(), time.monotonic())))  # noqa: B010
    status = launch.main(words)
    out.write_text(json.dumps(times))
    return status


def measure(kind: str, words: list[str], folder: Path) -> tuple[list[float], list[float]]:
    """Seconds of each visit after the first ones: of CPU, and on the clock."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    out = folder / f"{kind}.json"
    command = [sys.executable, __file__, "--child", str(out), "--config", "pullback-nerf-tiny.yaml", "--train"]
    command += ["system.prompt_processor.prompt=a red cube", f"exp_root_dir={folder}", f"name={kind}", *words]
    command += [] if kind == "without" else [f"--view={port}"]
    run = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    with look_on(f"http://127.0.0.1:{port}", run) if kind == "a browser looks" else contextlib.nullcontext():
        told = run.communicate()[0]
    if run.returncode:
        raise SystemExit(told)
    times = json.loads(out.read_text())[SKIPPED:]
    cpu, wall = ([b - a for a, b in itertools.pairwise(x)] for x in zip(*times, strict=True))
    return cpu, wall


@contextlib.contextmanager
def look_on(address: str, run: Any) -> Any:
    """A browser that is on the page as soon as there is one."""
    from browsing import chromium

    with chromium() as browser:
        tab = browser.new_page(viewport={"width": 400, "height": 300})
        while run.poll() is None:
            try:
                tab.goto(address)
                break
            except Exception:
                time.sleep(0.2)
        yield tab


def main() -> int:
    if sys.argv[1:2] == ["--child"]:
        return child(Path(sys.argv[2]), sys.argv[3:])
    words = [*SMALL, *sys.argv[1:]]
    print(f"{len(os.sched_getaffinity(0))} cores, OMP_NUM_THREADS={os.environ.get('OMP_NUM_THREADS', 'unset')}")
    print("| | CPU of a visit, s | more | clock, s | more |\n|---|---|---|---|---|")
    first: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        for kind in ("without", "nobody looks", "a browser looks"):
            cpu, wall = (statistics.mean(values) for values in measure(kind, words, Path(folder)))
            first = first or [cpu, wall]
            more = [f"{100 * (value / base - 1):+.1f} %" for value, base in zip((cpu, wall), first, strict=True)]
            print(f"| {kind} | {cpu:.3f} | {more[0]} | {wall:.3f} | {more[1]} |", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
