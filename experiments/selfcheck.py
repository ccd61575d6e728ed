"""What the check of a run can tell about the shipped model's NeRFs: against exact pictures, and right against wrong.

    python experiments/selfcheck.py outputs/prompts outputs/selfcheck.json

The first is a folder of `pullback evaluate prompts`, the second keeps the rows; the same command goes on.

The check of a run, two draws of 8 cameras, is applied to each NeRF of the folder and to the exact pictures of the
object that its prompt names, which nothing has been fitted to. The last lines say how many of the right NeRFs would
pass at the threshold that the wrong ones just fail: for the number itself, in units of the derived threshold, and in
units of the exact pictures' own number. The rows of docs/results/diversity follow, over NeRFs that were not the nearest
to what was asked for.
"""

from __future__ import annotations

import functools
import json
import sys
from pathlib import Path
from typing import Any

import torch
from pullback import models
from pullback.evaluate.campaign import Results
from pullback.evaluate.saved_run import SavedRun
from pullback.evaluate.studio import field as studio
from pullback.evaluate.studio import held_out
from pullback.evaluate.studio import world as worlds
from pullback.output.markdown import table
from pullback.resources import TINY_MODEL
from pullback.sampling.consistency import check
from pullback.sampling.space import Space
from torch import Tensor, nn

GUIDANCE = 2.5
DIVERSITY = Path("docs/results/diversity")


class Exact(nn.Module):
    """The exact pictures of an object of the studio."""

    def __init__(self, obj: worlds.StudioObject):
        super().__init__()
        self.obj = obj

    def render(self, views: Tensor) -> Tensor:
        """[V,3,64,64] for poses [V,4,4]."""
        return worlds.render(self.obj, views, studio.SIZE)


def numbers(rep: Any, prompt: str) -> dict[str, Any]:
    """The check's numbers, with two draws of cameras, the same for all."""
    generator = torch.Generator().manual_seed(0)
    space = Space(rep, studio.denoiser(_model(), prompt, GUIDANCE))
    verdict = check(space, lambda: studio.cameras(generator), [1.0, 0.0], generator, draws=2)
    given = {"number": verdict.consistency, "threshold": verdict.threshold, "floor": verdict.floor}
    return {**{key: round(value, 4) for key, value in given.items()}, "tells": verdict.tells}


@functools.cache
def _model() -> models.LatentModel:
    return models.load(str(TINY_MODEL))


def of_exact(prompt: str) -> dict[str, Any]:
    """A row: the exact pictures of what the prompt names."""
    exact = Exact({obj.caption: obj for obj in held_out.OBJECTS}[prompt])
    return {"prompt": prompt, "seed": "exact", **numbers(exact, prompt)}


def of_run(folder: Path, row: dict[str, Any]) -> dict[str, Any]:
    """A row: the NeRF of a row of the folder."""
    run = SavedRun(folder / "runs" / "prompts" / f"{row['prompt'].replace(' ', '_')}-{row['seed']}")
    return {key: row[key] for key in ("prompt", "seed", "right", "psnr")} | numbers(run, row["prompt"])


def passing(right: list[float], wrong: list[float]) -> str:
    """How many of the right ones lie below all of the wrong ones."""
    return f"{sum(x < min(wrong) for x in right)} of {len(right)}" if wrong else "none is wrong"


def kept(file: Path) -> list[str]:
    """A line for each prompt of kept rows: how often a right NeRF has the smaller number than a wrong one."""
    groups: dict[str, list[dict[str, Any]]] = {}
    for row in json.loads(file.read_text())["rows"]:
        if row["method"] == "pullback steps=10 widen=0.6":
            groups.setdefault(row["prompt"], []).append(row)
    lines = []
    for prompt, rows in groups.items():
        word = prompt.split()[-1]
        good = [r for r in rows if r["nearest"] == f"a {r['nearest'].split()[1]} {word}" or word == "object"]
        bad = [r for r in rows if r not in good]
        below = sum(r["consistency"] <= r["threshold"] for r in rows)
        order = [g["consistency"] < b["consistency"] for g in good for b in bad]
        share = f"; a right one is below a wrong one in {sum(order) / len(order):.2f} of pairs" if order else ""
        lines.append(f"{prompt}: {len(good)} of {len(rows)} right over 16 views, {below} below the threshold{share}")
    return lines


def main(folder: Path, out: Path) -> None:
    """Makes the rows that are missing; prints the table and the lines."""
    made = Results(folder / "prompts.json", ("prompt", "seed")).rows
    results = Results(out, ("prompt", "seed"))

    def said(row: dict[str, Any]) -> str:
        return f"{row['prompt']}, {row['seed']}: {row['number']}"

    prompts = dict.fromkeys(row["prompt"] for row in made)
    results.run(of_exact, {(prompt, "exact"): (prompt,) for prompt in prompts}, 1, said)
    results.run(of_run, {(row["prompt"], row["seed"]): (folder, row) for row in made}, 1, said)
    exact = {row["prompt"]: row for row in results.rows if row["seed"] == "exact"}
    found = sorted((row for row in results.rows if row["seed"] != "exact"), key=results.key_of)
    lines = [
        [r["prompt"], r["seed"], "yes" if r["right"] else "no", r["psnr"], r["number"], r["threshold"], r["floor"],
         exact[r["prompt"]]["number"], exact[r["prompt"]]["threshold"]]
        for r in found
    ]  # fmt: skip
    head = ["prompt", "seed", "right", "PSNR dB", "number", "threshold", "floor", "exact: number", "exact: threshold"]
    print(table(head, lines))
    good = [row for row in found if row["right"]]
    bad = [row for row in found if not row["right"]]
    for name, rows in (("exact pictures", [*exact.values()]), ("right NeRFs", good), ("wrong NeRFs", bad)):
        below, telling = sum(r["number"] <= r["threshold"] for r in rows), sum(r["tells"] for r in rows)
        print(f"{name}: {below} of {len(rows)} below the threshold; the check can tell in {telling}")
    for name, value in (
        ("the number", lambda r: r["number"]),
        ("the number over its threshold", lambda r: r["number"] / r["threshold"]),
        ("the number over the exact pictures'", lambda r: r["number"] / exact[r["prompt"]]["number"]),
    ):
        print(f"right NeRFs below all wrong ones, by {name}: {passing([*map(value, good)], [*map(value, bad)])}")
    print(*kept(DIVERSITY / "cube.json"), *kept(DIVERSITY / "blue-object.json"), sep="\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
