"""What the check of a run can tell about the shipped model's NeRFs: against exact pictures, and right against wrong.

    python experiments/selfcheck.py outputs/prompts    # a folder of `pullback evaluate prompts`

The check of a run, two draws of 8 cameras, is applied to each NeRF of the folder and to the exact pictures of the
object that its prompt names, which nothing has been fitted to. The last lines say how many of the right NeRFs would
pass at the threshold that the wrong ones just fail: for the number itself, in units of the derived threshold, and in
units of the exact pictures' own number. The rows of docs/results/diversity follow, over NeRFs that were not the nearest
to what was asked for.
"""

from __future__ import annotations

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
from pullback.sampling.consistency import Verdict, check
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


def checked(rep: Any, denoise: models.GuidedDenoiser) -> Verdict:
    """The check with two draws of cameras, the same for all."""
    generator = torch.Generator().manual_seed(0)
    return check(Space(rep, denoise), lambda: studio.cameras(generator), [1.0, 0.0], generator, draws=2)


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


def main(folder: Path) -> None:
    """Prints the table and the lines."""
    model = models.load(str(TINY_MODEL))
    objects = {obj.caption: obj for obj in held_out.OBJECTS}
    exact: dict[str, Verdict] = {}
    rows, lines = sorted(Results(folder / "prompts.json", ("prompt", "seed")).rows, key=lambda r: r["prompt"]), []
    found: list[tuple[bool, Verdict, Verdict]] = []
    for row in rows:
        denoise = studio.denoiser(model, row["prompt"], GUIDANCE)
        if row["prompt"] not in exact:
            exact[row["prompt"]] = checked(Exact(objects[row["prompt"]]), denoise)
        run = folder / "runs" / "prompts" / f"{row['prompt'].replace(' ', '_')}-{row['seed']}"
        of_run, of_exact = checked(SavedRun(run), denoise), exact[row["prompt"]]
        found.append((row["right"], of_run, of_exact))
        numbers = of_run.consistency, of_run.threshold, of_run.floor, of_exact.consistency, of_exact.threshold
        lines.append([row["prompt"], row["seed"], "yes" if row["right"] else "no", *(f"{x:.3f}" for x in numbers)])
    print(table(["prompt", "seed", "right", "number", "threshold", "floor", "exact: number", "threshold"], lines))
    print(f"exact pictures that pass: {sum(v.passed for v in exact.values())} of {len(exact)}")
    print(f"right NeRFs that pass: {sum(v.passed for ok, v, _ in found if ok)} of {sum(ok for ok, *_ in found)}")
    print(f"the check can tell, by its floor: in {sum(v.tells for _, v, _ in found)} of {len(found)}")
    for name, value in (
        ("the number", lambda v, e: v.consistency),
        ("over its threshold", lambda v, e: v.consistency / v.threshold),
        ("over the exact pictures' number", lambda v, e: v.consistency / e.consistency),
    ):
        sides = [[value(v, e) for ok, v, e in found if ok == side] for side in (True, False)]
        print(f"right ones below all wrong ones, by {name}: {passing(*sides)}")
    print(*kept(DIVERSITY / "cube.json"), *kept(DIVERSITY / "blue-object.json"), sep="\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
