"""`pullback evaluate prompts`: text prompts to NeRFs, each held against the exact object it names."""

from __future__ import annotations

import json
import os
import shlex
import statistics
import sys
import time
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any

import torch

from ..errors import UserError
from ..output.pictures import psnr, save_png
from ..version import commit
from .campaign import told, write_json
from .process import run_logged
from .saved_run import SavedRun
from .studio import naming
from .studio import world as worlds
from .studio.world import StudioObject

OBJECTS = [
    StudioObject("sphere", "red", "red"),
    StudioObject("cube", "green", "green"),
    StudioObject("cylinder", "blue", "blue"),
    StudioObject("cone", "yellow", "yellow"),
    StudioObject("torus", "purple", "purple"),
    StudioObject("diamond", "cyan", "cyan"),
    StudioObject("sphere", "yellow", "purple"),
    StudioObject("cube", "red", "blue"),
    StudioObject("cylinder", "cyan", "red"),
    StudioObject("cone", "green", "purple"),
    StudioObject("torus", "blue", "yellow"),
    StudioObject("diamond", "red", "green"),
]


def held_out_cameras(count: int = 16) -> torch.Tensor:
    """Camera-to-world [count,4,4]: all round, at 10° and 35° of elevation by turns."""
    i = torch.arange(count, dtype=torch.float32)
    return worlds.look_at(torch.where(i % 2 == 0, 10.0, 35.0), (i + 0.5) * 360 / count)


def run_one(
    config: Path, obj: StudioObject, seed: int, out: Path, overrides: list[str], threads: int
) -> dict[str, Any]:
    """Samples one object by an ordinary run of launch.py, then measures it."""
    tag = f"{obj.caption.replace(' ', '_')}-{seed}"
    command = [
        sys.executable, "-m", "pullback", "launch", "--config", str(config), "--train",
        f"system.prompt_processor.prompt={obj.caption}", f"seed={seed}", "use_timestamp=false",
        f"exp_root_dir={out / 'runs'}", "name=prompts", f"tag={tag}", "data.n_test_views=8", *overrides,
    ]  # fmt: skip
    start = time.time()
    log = out / f"{tag}.log"
    log.unlink(missing_ok=True)
    status, memory = run_logged(command, log, threads)
    row: dict[str, Any] = {
        "prompt": obj.caption, "seed": seed, "seconds": round(time.time() - start, 1), "peak_memory_mb": memory,
    }  # fmt: skip
    if status:
        return {**row, "failed": (log.read_text().strip().splitlines() or ["no message"])[-1]}
    c2w = held_out_cameras()
    renders = SavedRun(out / "runs" / "prompts" / tag).render(c2w)
    match = naming.nearest_object(renders, c2w)
    exact = worlds.render(obj, c2w, renders.shape[-1])
    picture = torch.cat([torch.cat(list(renders[::4]), -1), torch.cat(list(exact[::4]), -1)], -2)
    save_png(out / f"{tag}.png", picture)
    return row | {
        "found": match.found.caption, "right": match.found == obj, "psnr": round(match.psnr, 2),
        "psnr_to_wanted": round(psnr(renders, exact), 2),
    }  # fmt: skip


def table(rows: list[dict[str, Any]]) -> str:
    """The rows as a Markdown table, with the summary below it."""
    lines = [
        "| prompt | seed | nearest object | right | PSNR dB | seconds | MB |",
        "|---|---|---|---|---|---|---|",
    ]
    for r in sorted(rows, key=lambda r: (r["prompt"], r["seed"])):
        found = f"failed: {r['failed']}" if "failed" in r else r["found"]
        lines.append(
            f"| {r['prompt']} | {r['seed']} | {found} | {'yes' if r.get('right') else 'no'} "
            f"| {r.get('psnr', '')} | {r['seconds']:.0f} | {r['peak_memory_mb']} |"
        )
    good = [r for r in rows if r.get("right")]
    done = [r for r in rows if "psnr" in r]
    if done:
        lines += ["", f"{len(good)} of {len(rows)} are the object asked for; median PSNR to the nearest object "
                  f"{statistics.median(r['psnr'] for r in done):.1f} dB; median "
                  f"{statistics.median(r['seconds'] for r in rows):.0f} s and "
                  f"{max(r['peak_memory_mb'] for r in rows)} MB at most a run."]  # fmt: skip
    return "\n".join(lines) + "\n"


def evaluate(
    config: Path, out: Path, seeds: list[int], objects: list[StudioObject], overrides: list[str], workers: int
) -> list[dict[str, Any]]:
    """Every prompt with every seed, `workers` runs at a time; goes on from what `out/prompts.json` already has.

    Raises UserError when the folder holds results of other settings.
    """
    out.mkdir(parents=True, exist_ok=True)
    results = out / "prompts.json"
    settings = {"config": str(config), "overrides": overrides, "views": "16 held-out, 64 px"}
    rows: list[dict[str, Any]] = []
    if results.exists():
        saved = json.loads(results.read_text())
        if saved["settings"] != settings:
            raise UserError(f"--out {out} holds results of other settings ({saved['settings']}); choose another folder")
        rows = [r for r in saved["rows"] if "failed" not in r]
    known = {(r["prompt"], r["seed"]) for r in rows}
    todo = [(o, s) for s in seeds for o in objects if (o.caption, s) not in known]
    threads = max(1, (os.cpu_count() or 1) // workers)
    with ThreadPoolExecutor(workers) as pool:
        futures = [pool.submit(run_one, config, o, s, out, overrides, threads) for o, s in todo]
        for row in told((future.result() for future in as_completed(futures)), len(todo), _said):
            rows.append(row)
            write_json(results, {"settings": settings, "rows": rows})
    overridden = f" {shlex.join(overrides)}" if overrides else ""
    command = f"pullback evaluate prompts --config {config} --seeds {','.join(map(str, seeds))}{overridden}"
    head = f"# Text prompts to NeRFs\n\n`{command}`,\n{workers} runs at a time with {threads} thread(s) each, "
    head += f"commit {commit()}.\nHeld against all 216 exact objects of the studio world over 16 held-out views, 64 px."
    head += "\nMB: peak memory of a run, an upper bound (a process starts with its parent's).\n\n"
    (out / "prompts.md").write_text(head + table(rows))
    return rows


def _said(row: dict[str, Any]) -> str:
    verdict = row.get("failed") or f"{row['found']}, {row['psnr']:.1f} dB"
    return f"{row['prompt']} (seed {row['seed']}): {verdict}"
