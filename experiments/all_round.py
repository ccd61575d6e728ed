"""NeRFs of objects that no model of single views can get right, by one that sees four views at once.

    python experiments/all_round.py --model FOLDER --out outputs/all-round
    python experiments/all_round.py --model FOLDER --method "pullback guidance=2.5 noise=slot levels=16" --out …

Six objects of two colours, six of four sides, six with a mark; no words for views, and by default before a plain grey
backdrop, which does not tell from where a picture is taken. A NeRF is named after the nearest of the studio's 3,096
exact objects over four held-out groups of views. The rows are kept in OUT/all-round.json, and a run goes on from there.
"""

from __future__ import annotations

import argparse
import functools
import statistics
import time
from pathlib import Path
from typing import Any

import torch
from pullback.cli.arguments import at_least, parse_seeds
from pullback.evaluate.campaign import Results
from pullback.evaluate.studio import around, field, groups
from pullback.evaluate.studio.around import AnyObject, FourSided, Marked
from pullback.evaluate.studio.held_out import OBJECTS
from pullback.evaluate.studio.model import load
from pullback.output.contact_sheet import grid
from pullback.output.file_names import slug
from pullback.output.markdown import print_table
from pullback.output.pictures import save_png

METHOD = "pullback guidance=2.5 noise=slot cycles=1 levels=16 plain=true"
SIDED = [FourSided(*words.split()) for words in (
    "sphere red green blue yellow", "cube purple cyan yellow red", "cylinder green red cyan blue",
    "cone yellow blue red purple", "torus cyan yellow purple green", "diamond blue purple green cyan",
)]  # fmt: skip
MARKED = [Marked(*words.split()) for words in (
    "sphere red yellow front", "cube green purple back", "cylinder blue red left", "cone yellow cyan right",
    "torus purple green front", "diamond cyan blue back",
)]  # fmt: skip
KINDS: dict[str, list[Any]] = {
    "two colours": [o for o in OBJECTS if o.front != o.back], "four sides": SIDED, "a mark": MARKED
}  # fmt: skip


@functools.cache
def bank() -> groups.GroupBank:
    """The exact pictures over the held-out views."""
    return groups.GroupBank(groups.Cameras(field.SIZE).c2w.flatten(0, 1))


def run_one(path: str, text: str, kind: str, obj: AnyObject, seed: int, out: Path) -> dict[str, Any]:
    """A NeRF's row, and its picture."""
    method, start = field.parse(text), time.process_time()
    made, result = field.make(load(path), obj.caption, method, torch.Generator().manual_seed(seed))
    seconds = time.process_time() - start
    c2w = groups.Cameras(field.SIZE).c2w.flatten(0, 1)
    with torch.no_grad():
        renders = made.render(c2w)
    match = bank().name(renders)
    exact = around.render(obj, c2w, plain=method.plain)
    file = out / f"{slug(f'{obj.caption}-{seed}')}.png"
    out.mkdir(parents=True, exist_ok=True)
    save_png(file, grid([renders[4:8], exact[4:8]]))
    return {
        "kind": kind, "prompt": obj.caption, "method": text, "seed": seed, "found": match.obj.caption,
        "right": groups.agrees(match.obj, obj), "psnr": round(match.psnr, 2), "nfe": result.nfe,
        "seconds": round(seconds, 1), "picture": file.name,
    }  # fmt: skip


def main() -> None:
    """Makes the NeRFs that are missing, and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="the folder of a model of several views")
    parser.add_argument("--method", default=METHOD, help=f"as for `pullback evaluate diversity` (default {METHOD!r})")
    parser.add_argument("--kinds", default=",".join(KINDS), help="of objects, commas between (default all)")
    parser.add_argument("--seeds", type=parse_seeds, default=[0], help="0-3 or 0,2,5 (default 0)")
    parser.add_argument("--workers", type=at_least(1), default=1, help="NeRFs at a time (default 1)")
    parser.add_argument("--out", type=Path, default=Path("outputs/all-round"))
    args = parser.parse_args()
    torch.set_num_threads(1)
    text = field.parse(args.method).label
    results = Results(args.out / "all-round.json", ("prompt", "method", "seed")).claimed()
    kinds = {kind: KINDS[kind] for kind in args.kinds.split(",")}
    tasks = {
        (obj.caption, text, seed): (args.model, text, kind, obj, seed, args.out)
        for kind, objects in kinds.items()
        for seed in args.seeds
        for obj in objects
    }
    results.run(run_one, tasks, args.workers, lambda row: f"{row['prompt']}: {row['found']}, {row['psnr']} dB")
    lines = []
    for kind in kinds:
        rows = [row for row in results.rows if row["kind"] == kind and row["method"] == text]
        lines.append([
            kind, f"{sum(row['right'] for row in rows)} of {len(rows)}",
            *(f"{statistics.median(row[key] for row in rows):.1f}" for key in ("psnr", "nfe", "seconds")),
        ])  # fmt: skip
    print_table(["objects", "right", "PSNR dB", "calls", "seconds"], lines)


if __name__ == "__main__":
    main()
