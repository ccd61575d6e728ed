"""`pullback evaluate prompts`: text prompts to NeRFs, each compared with the exact object that it names."""

from __future__ import annotations

import os
import shlex
import statistics
import time
from pathlib import Path
from typing import Any

from ..output import markdown, whole
from ..output.contact_sheet import grid
from ..output.pictures import psnr, save_png
from ..version import commit
from .campaign import Results
from .damaged import telling
from .saved_run import SavedRun
from .studio import naming
from .studio import world as worlds
from .studio.held_out import held_out_cameras
from .studio.world import StudioObject
from .trial import Trial


def run_one(
    config: Path, obj: StudioObject, seed: int, out: Path, overrides: list[str], threads: int
) -> dict[str, Any]:
    """Samples one object by an ordinary run of launch.py, and measures it; returns its row."""
    tag = f"{obj.caption.replace(' ', '_')}-{seed}"
    run = Trial(out, "prompts", obj.caption, seed, tag, ("data.n_test_views=8", *overrides), config=config)
    start = time.time()
    failed, memory = run.run(threads)
    row: dict[str, Any] = {
        "prompt": obj.caption, "seed": seed, "seconds": round(time.time() - start, 1), "peak_memory_mb": memory,
    }  # fmt: skip
    if failed:
        return {**row, "failed": failed}
    c2w = held_out_cameras()
    saved = SavedRun(run.folder)
    renders, background = saved.render(c2w), saved.backdrop(c2w)
    match = naming.nearest_object(renders, c2w, background=background)
    exact = worlds.render(obj, c2w, renders.shape[-1], background=background)
    save_png(out / f"{tag}.png", grid([renders[::4], exact[::4]]))
    return row | {
        "found": match.obj.caption, "right": match.obj == obj, "psnr": round(match.psnr, 2),
        "psnr_to_wanted": round(psnr(renders, exact), 2),
    }  # fmt: skip


def table(rows: list[dict[str, Any]]) -> str:
    """The rows as a Markdown table, with the summary below it."""
    lines = [
        [r["prompt"], r["seed"], f"failed: {r['failed']}" if "failed" in r else r["found"],
         "yes" if r.get("right") else "no", r.get("psnr", ""), f"{r['seconds']:.0f}", r["peak_memory_mb"]]
        for r in sorted(rows, key=lambda r: (r["prompt"], r["seed"]))
    ]  # fmt: skip
    text = markdown.table(["prompt", "seed", "nearest object", "right", "PSNR dB", "seconds", "MB"], lines)
    good = [r for r in rows if r.get("right")]
    measurable = [r for r in rows if "psnr" in r]
    if measurable:
        text += (f"\n{len(good)} of {len(rows)} are the object asked for; median PSNR to the nearest object "
                 f"{statistics.median(r['psnr'] for r in measurable):.1f} dB; median "
                 f"{statistics.median(r['seconds'] for r in rows):.0f} s and "
                 f"{max(r['peak_memory_mb'] for r in rows)} MB at most a run.\n")  # fmt: skip
    return text


def evaluate(
    config: Path, out: Path, seeds: list[int], objects: list[StudioObject], overrides: list[str], workers: int
) -> list[dict[str, Any]]:
    """Samples every prompt with every seed, but for the rows that OUT/prompts.json has; writes OUT/prompts.md.

    Args:
        config: The base config.
        out: The folder of rows, pictures and runs.
        seeds: The seeds of each prompt.
        objects: The objects that the prompts name.
        overrides: key=value for every run.
        workers: How many runs there are at a time.

    Returns:
        The rows.

    Raises:
        UserError: The folder has results of other settings.
    """
    results = Results(out / "prompts.json", ("prompt", "seed")).claimed()
    saved = results.data.get("settings", {})
    if "config" in saved:
        saved["config"] = Path(saved["config"]).name  # where it lies has changed, and is another in an installed wheel
    settings = {"config": config.name, "overrides": overrides, "views": "16 held-out, 64 px"}
    results.match("settings", value=settings)
    threads = max(1, (os.cpu_count() or 1) // workers)
    tasks = {(o.caption, s): (config, o, s, out.resolve(), overrides, threads) for s in seeds for o in objects}
    rows = results.run(run_one, tasks, workers, _sentence).rows
    words = ["--config", str(config), "--seeds", ",".join(map(str, seeds)), "--prompts", str(len(objects))]
    command = shlex.join(["pullback", "evaluate", "prompts", *words, "--out", str(out), *overrides])
    head = f"# Text prompts to NeRFs\n\n`{command}`,\n{workers} runs at a time with {threads} thread(s) each, "
    head += f"commit {commit()}.\nCompared with all 216 objects of the studio over 16 held-out views, 64 px."
    head += "\nMB: peak memory of a run, an upper bound (with what runs before have left in the process).\n\n"
    with telling(results):
        whole.write(out / "prompts.md", head + table(rows))
    return rows


def _sentence(row: dict[str, Any]) -> str:
    verdict = row.get("failed") or f"{row['found']}, {row['psnr']:.1f} dB"
    return f"{row['prompt']} (seed {row['seed']}): {verdict}"
