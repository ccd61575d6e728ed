"""SIGKILL at random times of runs in real threestudio, as tests/threestudio/test_killed.py does it, with its scene."""

from __future__ import annotations

import functools
import random
import shutil
import signal
import sys
import time
from pathlib import Path
from typing import Any

import torch
from checkpoints import same  # pyright: ignore[reportMissingImports]

from .results import Results, Row, workplace

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "threestudio"))  # before the other conftest
KILLS, VISITS = 10, 16


def run(results: Results, args: Any) -> None:
    if args.root is None:
        raise SystemExit("--root names a checkout of threestudio")
    from conftest import EXTENSION, Threestudio  # pyright: ignore[reportMissingImports]

    with workplace(args.work, "threestudio") as work:
        root = work / "checkout"
        if not root.exists():
            (root / "custom").mkdir(parents=True)
            for entry in args.root.resolve().iterdir():
                if entry.name not in (".git", "custom", "outputs", ".threestudio_cache", "__pycache__"):
                    (root / entry.name).symlink_to(entry)
            (root / "custom" / EXTENSION.name).symlink_to(EXTENSION)
        place = Threestudio(root)
        cases = {f"kill {n}": functools.partial(one, place, work, f"{args.seed} {n}") for n in range(KILLS)}
        results.run(cases, args.only)


@functools.cache
def undisturbed(place: Any, work: Path) -> tuple[dict[str, Any], float]:
    from test_killed import finish, last, start, wait_for  # pyright: ignore[reportMissingImports]

    out = work / "whole"
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir()
    process = start(place, out)
    began = wait_for(last(out), process)
    return finish(process, out), last(out).stat().st_mtime - began


def one(place: Any, work: Path, seed: str) -> Row:
    from test_killed import finish, last, start, wait_for  # pyright: ignore[reportMissingImports]

    wanted, spent = undisturbed(place, work)
    out = work / "killed"
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir()
    process = start(place, out)
    wait_for(last(out), process)
    time.sleep(random.Random(seed).uniform(0, spent))
    process.send_signal(signal.SIGKILL)
    process.wait()
    step = torch.load(last(out), weights_only=True)["global_step"]
    found = finish(start(place, out, f"resume={last(out)}"), out)
    faults = [
        f"{name} differs"
        for name in ("state_dict", "optimizer_states", "pullback")
        if not same(found[name], wanted[name])
    ]
    faults += ["another number of visits"] * (not found["global_step"] == wanted["global_step"] == VISITS)
    return {"step": step, "verdict": "; ".join(faults) or "ok"}
