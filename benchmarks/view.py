"""What `--view` costs a run: CPU time of its visits without it, with it and nobody looking, and with a browser.

    python benchmarks/view.py [--rounds N] [--kinds KIND,…] [--keep FILE] [key=value …]

The runs of a round go side by side, so that what else the machine does is the same for all; they make the same visits,
bit for bit. CPU time is that of the run's own process: the browser draws by software here, which a machine with a GPU
does not. Two figures:

- its own: CPU time of the view's hooks in the run's thread and of all other threads, against all the rest; in brackets
  the visit with the most. With one thread for PyTorch these others are the view's, but for those that a run without it
  shows too.
- more: against the same visit of the round's run without a view, as the median over visits and rounds, with an interval
  that holds it with 95 % probability by the order of the values alone. It has the indirect costs too.
"""

from __future__ import annotations

import argparse
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
SKIPPED = 4  # first visits, in which kernels are loaded and the browser arrives
SMALL = ("system.guidance.levels=34", "system.guidance.cycles=1", "data.n_test_views=1", "trainer.limit_val_batches=0",
         "system.exporter_type=dummy-exporter")  # fmt: skip
KINDS = ("without", "nobody looks", "a browser looks")


def child(out: Path, words: list[str]) -> int:
    """Runs a command line of launch.py; writes CPU time, the clock, and the view's own CPU time after each visit."""
    from pullback.host import launch
    from pullback.host.training.callbacks import ProgressLine

    hooks = 0.0
    if any(word.startswith("--view") for word in words):
        from pullback.host.live.watch import LiveView

        whole = LiveView.on_train_batch_end

        def timed(*args: Any) -> None:
            nonlocal hooks
            began = time.thread_time()
            whole(*args)
            hooks += time.thread_time() - began

        setattr(LiveView, "on_train_batch_end", timed)  # noqa: B010
    times: list[tuple[float, float, float]] = []

    def note(*_: Any) -> None:
        process = time.process_time()
        times.append((process, time.monotonic(), process - time.thread_time() + hooks))

    setattr(ProgressLine, "on_train_batch_end", note)  # noqa: B010
    status = launch.main(words)
    out.write_text(json.dumps(times))
    return status


def measure(kinds: list[str], words: list[str], folder: Path) -> dict[str, list[list[float]]]:
    """Seconds of each visit after the first ones, by kind: of CPU, on the clock, and of the view's own CPU."""
    with contextlib.ExitStack() as stack:
        runs: dict[str, Any] = {}
        for kind in kinds:
            with socket.socket() as probe:
                probe.bind(("127.0.0.1", 0))
                port = probe.getsockname()[1]
            command = [sys.executable, __file__, "--child", str(folder / f"{kind}.json"), "--config"]
            command += ["pullback-nerf-tiny.yaml", "--train", f"exp_root_dir={folder}", f"name={kind}", *words]
            command += ["system.prompt_processor.prompt=a red cube", *([] if kind == KINDS[0] else [f"--view={port}"])]
            log = stack.enter_context((folder / f"{kind}.log").open("w"))
            runs[kind] = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
            stack.callback(runs[kind].kill)
            if kind == KINDS[2]:
                stack.enter_context(look_on(f"http://127.0.0.1:{port}", runs[kind]))
        for kind, run in runs.items():
            if run.wait():
                raise SystemExit((folder / f"{kind}.log").read_text())
    found = {}
    for kind in kinds:
        times = json.loads((folder / f"{kind}.json").read_text())[SKIPPED:]
        found[kind] = [[b - a for a, b in itertools.pairwise(x)] for x in zip(*times, strict=True)]
    return found


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


def more(ratios: list[float]) -> str:
    """The median of ratios in per cent above 1, and the values between which it lies with 95 % probability."""
    ordered, n = sorted(ratios), len(ratios)
    rank = max(0, round(n / 2 - 0.98 * n**0.5) - 1)  # the binomial's quantile, by its normal approximation
    middle, low, high = (100 * (x - 1) for x in (statistics.median(ordered), ordered[rank], ordered[-1 - rank]))
    return f"{middle:+.1f} % ({low:+.1f} to {high:+.1f})"


def main() -> int:
    if sys.argv[1:2] == ["--child"]:
        return child(Path(sys.argv[2]), sys.argv[3:])
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=1, help="runs of each kind (default 1)")
    parser.add_argument("--keep", type=Path, help="a file of seconds, which is added to: rounds at several times")
    parser.add_argument(
        "--kinds", default=",".join(KINDS), help=f"which runs, commas between (default {','.join(KINDS)})"
    )
    args, words = parser.parse_known_args()
    kinds = [kind for kind in KINDS if kind in args.kinds.split(",")]
    keep: Path | None = args.keep
    rounds: list[dict[str, Any]] = json.loads(keep.read_text()) if keep is not None and keep.is_file() else []
    with tempfile.TemporaryDirectory() as folder:
        for _ in range(args.rounds):
            rounds.append(measure(kinds, [*SMALL, *words], Path(folder)))
            if keep is not None:
                keep.write_text(json.dumps(rounds))
    cores = len(os.sched_getaffinity(0))
    print(f"{cores} cores, OMP_NUM_THREADS={os.environ.get('OMP_NUM_THREADS', 'unset')}, {len(rounds)} rounds")
    print("| | CPU of a visit, s | its own | more | clock, s | more |\n|---|---|---|---|---|---|")
    for kind in KINDS:
        found = [one[kind] for one in rounds if kind in one]
        if not found:
            continue
        cpu, wall, own = ([value for one in found for value in one[i]] for i in range(3))
        most = max(b / (a - b) for a, b in zip(cpu, own, strict=True))
        share = 100 * sum(own) / (sum(cpu) - sum(own))
        cells = [f"{statistics.median(cpu):.3f}", f"{share:.1f} % ({100 * most:.1f})"]
        cells += ["", f"{statistics.median(wall):.3f}", ""]
        if pairs := [
            (one[kind], one[KINDS[0]]) for one in rounds if kind != KINDS[0] and {kind, KINDS[0]} <= one.keys()
        ]:
            for i, place in ((0, 2), (1, 4)):
                ratios = [a / b for one, base in pairs for a, b in zip(one[i], base[i], strict=True)]
                cells[place] = more(ratios)
        print(f"| {kind} | {' | '.join(cells)} |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
