"""One run of as many visits as 200 demos have: memory and file handles must not grow."""

from __future__ import annotations

import contextlib
import functools
import gc
import io
import math
import os
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
from pullback.host import launch
from pullback.sampling.sampler import Sampler

from . import runs
from .results import Results, Row, workplace

DEMOS, VISITS = 200, 60  # of 30 levels with 2 cycles each
WARM = 20  # demos before the first that counts
STUDENT = 2.31  # 97.5 % of Student's t with 8 degrees of freedom, of a line through 10 means
SMALL = [
    f"system.guidance.levels={(DEMOS + WARM) * VISITS // 2}", "system.guidance.cycles=2", "system.guidance.fit_steps=2",
    "system.guidance.fit_rays=16", "system.geometry.grid_size=[8,8,8]", "system.renderer.num_samples_per_ray=8",
    f"trainer.val_check_interval={VISITS}", f"checkpoint.every_n_train_steps={VISITS}", "data.n_test_views=1",
    "data.n_val_views=1", "data.batch_size=1", "data.width=8", "data.height=8", "data.eval_width=8",
    "data.eval_height=8",
]  # fmt: skip


def run(results: Results, args: Any) -> None:
    runs.preload()
    with workplace(args.work, "long") as work:
        results.run({f"{DEMOS * VISITS} visits": lambda: measure(work)}, args.only)


def measure(work: Any) -> Row:
    sd, rows = runs.model(work), np.zeros((DEMOS + WARM, 3), np.int64)  # made beforehand: a list would grow
    shutil.rmtree(work / "out", ignore_errors=True)
    visit, count = Sampler.visit, 0

    @functools.wraps(visit)
    def counted(*args: Any, **kwargs: Any) -> Any:
        nonlocal count
        count += 1
        if count % VISITS == 0:
            gc.collect()
            row = rows[count // VISITS - 1]
            row[:] = resident(), len(os.listdir("/proc/self/fd")), len(os.listdir("/proc/self/task"))
            if count % (10 * VISITS) == 0:
                print(f"visit {count}: {row}", file=sys.stderr, flush=True)
        return visit(*args, **kwargs)

    Sampler.visit = counted
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            status = launch.main(runs.words("nerf", sd, work / "out", *SMALL))
    finally:
        Sampler.visit = visit
    assert status == 0 and count == len(rows) * VISITS, (status, count)
    memory, handles, threads = rows[WARM:].T.tolist()
    slope, error = line([m * 1024 for m in memory])
    faults = [f"memory grows by {slope / VISITS:.0f} bytes a visit"] * (slope > STUDENT * error)
    faults += ["file handles grow"] * (max(handles[-20:]) > max(handles[:20]))
    faults += ["threads grow"] * (max(threads[-20:]) > max(threads[:20]))
    return {
        "visits": DEMOS * VISITS, "bytes a visit": round(slope / VISITS, 1), "error": round(error / VISITS, 1),
        "MB": [round(memory[0] / 1024), round(memory[-1] / 1024)], "handles": [handles[0], handles[-1]],
        "threads": [threads[0], threads[-1]], "verdict": "; ".join(faults) or "ok",
    }  # fmt: skip


def resident() -> int:
    """Resident memory in kB, freed memory given back first."""
    import ctypes

    ctypes.CDLL(None).malloc_trim(0)
    status = dict(row.split(":", 1) for row in Path("/proc/self/status").read_text().splitlines() if ":" in row)
    return int(status["VmRSS"].split()[0])


def line(values: list[float], block: int = 20) -> tuple[float, float]:
    """Slope by least squares, and its standard error from means of blocks, whose errors hardly correlate."""
    means = [sum(values[i : i + block]) / block for i in range(0, len(values) - block + 1, block)]
    n = len(means)
    x = [block * (i - (n - 1) / 2) for i in range(n)]
    spread = sum(a * a for a in x)
    slope = sum(a * b for a, b in zip(x, means, strict=True)) / spread
    middle = sum(means) / n
    rest = sum((b - middle - slope * a) ** 2 for a, b in zip(x, means, strict=True))
    return slope, math.sqrt(rest / (n - 2) / spread)
