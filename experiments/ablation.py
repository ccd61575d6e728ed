"""Does the constraint help? Representations × constraint × noise × views, in worlds whose right answer is known.

    python experiments/ablation.py --out outputs/ablation                      # everything, with each part's seeds
    python experiments/ablation.py --only voxel,hash --seeds 0-3 --workers 2   # or some of it; a run goes on from OUT

Writes OUT/worlds.json, a row a sample, and from all rows there are OUT/ablation.md and OUT/ablation.json, a line a
cell. What the sampler refuses to combine stands in the table with the reason it gives.
"""

from __future__ import annotations

import argparse
import functools
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import representations  # noqa: F401  (its worlds)
import torch
from pullback.cli.arguments import parse_seeds
from pullback.errors import UserError
from pullback.evaluate import exact_worlds
from pullback.evaluate.campaign import Results
from pullback.evaluate.exact_worlds import methods, report, runner
from pullback.output.markdown import measure_table, table
from pullback.version import commit

KEPT, ALL = ("independent", "fresh"), ("shared", "independent", "smooth", "surface", "fresh")
CLOSED = {"langevin": "schedule=settling sigma_max=10"}
"""Langevin's own levels, where the prior is one or a few Gaussians; elsewhere all have the world's levels."""


LEGEND = """\
One line a world and a noise, one column a constraint; below, a table a representation with everything measured.
`none`: the plain pulled-back flow. `3 × the levels`: the same with as many denoiser calls as Repaint, which visits
each level three times; only where it is cheap. blends: samples farther than rms 0.05 from every scene. distinct:
scenes found (a blend counts as the nearest), against what a perfect sampler finds in so many samples on average (in
95 % of cases). χ² p, TV: against the world's weights. calls: of the denoiser a sample, each view counted singly.
seconds: of one core a run, which is one sample, in the plane and on the line 2000 at once, of a Gaussian 20 000. With
one view, shared and smooth noise are what independent noise is. fresh views: 8 of 32 cameras at every visit; fixed:
the same 8 all along. – : not run."""


@dataclass(frozen=True)
class Part:
    """The cells of one representation.

    Attributes:
        name: As on the command line.
        title: For a reader.
        worlds: The worlds.
        noises: The couplings.
        seeds: How many seeds each cell has.
        levels: How many noise levels each cell has.
        common: Options of all cells.
        extra: Options by constraint.
        control: Whether there are cells without constraint at three times the levels.
    """

    name: str
    title: str
    worlds: tuple[str, ...]
    noises: tuple[str, ...]
    seeds: int
    levels: int
    common: str
    extra: dict[str, str]
    control: bool = True

    def cells(self) -> list[tuple[str, str, str, str]]:
        """World, noise, constraint and the method's text of every cell."""
        ways = {
            "none": "constraint=none",
            "none, 3 × the levels": f"constraint=none levels={3 * self.levels}",
            "Repaint": "constraint=repaint cycles=3",
            "Projection": "constraint=projection",
            "Langevin": "constraint=langevin",
        }
        if not self.control:
            del ways["none, 3 × the levels"]
        texts = {way: f"{text} {self.extra.get(way.lower(), '')} {self.common}" for way, text in ways.items()}
        for way in texts:
            if "levels=" not in texts[way]:
                texts[way] += f" levels={self.levels}"
        return [
            (world, noise, way, f"pullback noise={noise} tries=1 {text}")
            for world in self.worlds for noise in self.noises for way, text in texts.items()
        ]  # fmt: skip


VIEWS = [f"{world}-{{}}-{views}" for world in ("shapes", "two-tone") for views in ("fresh", "fixed")]
PARTS = (
    Part("plane", "Pixels: points of the plane", ("mixture",), KEPT, 4, 40, "order=1", CLOSED),
    Part("line", "Linear: a line in the plane, off one of two modes", ("line",), KEPT, 4, 40, "order=1", CLOSED),
    Part("gauss", "Linear: a Gaussian", ("gauss-square", "gauss-tall"), KEPT, 1, 100, "", CLOSED),
    Part("pixels", "Pixels: pictures of 16 scenes", ("picture-pixels",), KEPT, 32, 20, "", {}),
    Part("linear", "Linear: the span of the pictures", ("picture-linear",), KEPT, 32, 20, "", {}),
    Part("siren", "SIREN: pictures of 16 scenes", ("picture-siren",), KEPT, 16, 20, "cg=20", {}),
    Part("voxel", "Voxel field", tuple(v.format("voxel") for v in VIEWS), ALL, 6, 20, "", {}, control=False),
    Part("hash", "Hash grid", tuple(v.format("hash") for v in VIEWS[:2]), ALL, 2, 20, "", {}, control=False),
)
COLUMNS = {
    "cov error": "covariance error", "cov error by chance": "by chance", "mean error": "mean error",
    "share": "share on the line", "share, exact": "exact", "modes χ² p": "χ² p", "modes TV": "TV", "outside": "outside",
    "blends": "blends", "distinct": "distinct", "distinct, perfect": "distinct, perfect", "scenes χ² p": "χ² p",
    "scenes TV": "TV", "rms median": "rms median", "symmetric": "symmetric", "samples": "samples",
    "evaluations": "calls", "seconds": "seconds", "failed": "failed",
}  # fmt: skip


@functools.cache
def refusal(world: str, noise: str, way: str, text: str) -> str | None:
    """Why the sampler refuses a combination, after two levels of it; None if it does not."""
    if way not in ("Projection", "Langevin") or noise in KEPT:
        return None  # the slots' noises are what these two move
    try:
        methods.parse(f"{text} levels=2 steps=1")(exact_worlds.world(world), 0)
    except UserError as error:
        return str(error)
    return None


def lines_of(part: Part, results: Results) -> list[dict[str, Any]]:
    """A line for every cell of the part that has rows, or that the sampler refuses."""
    lines = []
    for world, noise, way, text in part.cells():
        head = {"part": part.name, "world": world, "noise": noise, "constraint": way, "method": text}
        rows = results.of(world, methods.parse(text).label)
        if rows:
            measured = report.measures(exact_worlds.world(world), rows)
            seeds, commits = [row["seed"] for row in rows], sorted({row["commit"] for row in rows})
            lines.append(head | {"seeds": seeds, "commits": commits, "measures": measured})
        elif why := refusal(world, noise, way, text):
            lines.append(head | {"refused": why})
    return lines


def cells(lines: list[dict[str, Any]]) -> str:
    """A part's Markdown table, and the combinations that the sampler refuses."""
    shown, reasons = {}, {}
    for line in lines:
        label = " | ".join(line[key] for key in ("world", "noise", "constraint"))
        if "refused" in line:
            reasons.setdefault(line["refused"], []).append(f"{line['constraint']} with {line['noise']}")
        else:
            figures = line["measures"]
            shown[label] = {name: figures[key] for key, name in COLUMNS.items() if key in figures}
    text = measure_table(shown, "world | noise | constraint") if shown else "Not run.\n"
    for why, cells in reasons.items():
        text += f"\nRefused: {', '.join(dict.fromkeys(cells))}: “{why}”\n"
    return text


def overview(lines: list[dict[str, Any]]) -> str:
    """Representations and noises down, constraints across: the one figure that says most."""
    ways = list(dict.fromkeys(line["constraint"] for line in lines))
    rows: dict[tuple[str, str], dict[str, str]] = {}
    for line in lines:
        rows.setdefault((line["world"], line["noise"]), {})[line["constraint"]] = figure(line)
    lines_of_rows = [[*key, *(row.get(way, "–") for way in ways)] for key, row in rows.items()]
    return table(["world", "noise", *ways], lines_of_rows)


def figure(line: dict[str, Any]) -> str:
    """The cell of the overview: the one measure that says most."""
    if "refused" in line:
        return "refused"
    figures = line["measures"]
    if "cov error" in figures:
        return f"cov {figures['cov error']:.3f}"
    if "modes TV" in figures:
        return f"TV {figures['modes TV']:.3f}"
    if "blends" not in figures:
        return "failed"
    return f"{figures['blends']}/{figures['samples']} blends, {figures['distinct']} distinct"


def write(out: Path) -> str:
    """OUT/ablation.json and OUT/ablation.md, from all rows in OUT; returns the text."""
    results = runner.results_of(out)
    lines = [(part, lines_of(part, results)) for part in PARTS]
    flat = [line for _, lines in lines for line in lines]
    (out / "ablation.json").write_text(json.dumps(flat, ensure_ascii=False, indent=1) + "\n")
    commits = sorted({name for line in flat for name in line.get("commits", [])})
    text = f"# Representations × constraint × noise × views\n\n{LEGEND}\n\n"
    text += f"`python experiments/ablation.py`, commits {', '.join(commits)}.\n\n## Overview\n\n{overview(flat)}\n"
    for part, own in lines:
        if own:
            text += f"## {part.title}\n\n{part.levels} levels; options {part.common or 'as usual'}.\n\n{cells(own)}\n"
    (out / "ablation.md").write_text(text)
    return text


def main() -> None:
    """Runs the cells that OUT lacks, and writes the table of all."""
    names = [part.name for part in PARTS]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default=",".join(names), help=f"parts, of {', '.join(names)} (default all)")
    parser.add_argument("--seeds", type=parse_seeds, help="0-3 or 0,2,5 (default: each part's own)")
    parser.add_argument("--out", type=Path, default=Path("outputs/ablation"), help="folder of the rows and the table")
    parser.add_argument("--workers", type=int, default=1, help="runs at a time (default 1)")
    arguments = parser.parse_args()
    parts = arguments.only.split(",")
    if arguments.workers < 1 or not set(parts) <= set(names):
        parser.error(f"--workers is at least 1, and --only takes parts of {', '.join(names)}")
    torch.set_num_threads(1)
    print(f"commit {commit()}", flush=True)
    for part in (part for part in PARTS if part.name in parts):
        for world in part.worlds:
            texts = [cell[-1] for cell in part.cells() if cell[0] == world and refusal(*cell) is None]
            seeds = arguments.seeds or list(range(part.seeds))
            runner.run([world], [methods.parse(text) for text in texts], seeds, arguments.out, arguments.workers)
    print(write(arguments.out))


if __name__ == "__main__":
    main()
