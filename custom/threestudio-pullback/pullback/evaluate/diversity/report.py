"""Tables and pictures of `pullback evaluate diversity`."""

from __future__ import annotations

import shlex
import statistics
from collections import Counter
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ...output import chart, whole
from ...output.contact_sheet import contact_sheet
from ...output.markdown import measure_table
from ..campaign import Results
from ..exact_worlds.report import ranges
from ..exact_worlds.statistics import total_variation, two_sample_chi_square
from ..studio import field as studio
from ..studio import world as worlds
from ..studio.world import COLORS, SHAPES
from .campaign import FREE, GROUPS, TWO_COLOURED, saved_picture

OBJECTS = {obj.caption: obj for obj in worlds.all_objects()}
OTHER = "several colours"
HEAD = """# Does it sample? The shipped model's NeRFs against its own pictures

`{command}`

Commit {commits}.

{what}
"""
PARTIAL = """
## {prompt}: the {free} is free

{count} {pictures}: one rule for both. "χ² p" is
the two-sample test of the NeRFs' names against the pictures'. For "p, 16 views" a NeRF has the name of the nearest
object over 16 held-out views instead. "as asked": the {attribute} is the prompt's. PSNR: of 16 views to that object,
median.

"""
SINGLE = """pictures of the model, without guidance. Their prompts end in the words of views, from random cameras like
those of the NeRFs (front, side, back by azimuth, elevations 0° to 60°). A picture, and one render of each NeRF from a
random camera, gets the name of the nearest exact picture, of all 216 objects from 216 cameras"""
SEVERAL = """groups of {several} pictures of the model, without guidance. A group, and a group of renders of each NeRF
from the same cameras, gets the name of the nearest of the studio's 3,096 exact objects, marked ones and such of four
sides among them"""
COLOURED = """
## Two colours

Right: as the nearest of all 216 objects over 16 held-out views has it.

"""


def kinds(prompt: str) -> list[str]:
    """The possible values of the attribute that a partial prompt leaves open."""
    return list(COLORS) if FREE[prompt] == "color" else list(SHAPES)


def histogram(prompt: str, captions: list[str]) -> Tensor:
    """How many captions have each of `kinds`; the last count is of all objects that are not of one colour."""
    plain = [OBJECTS[c] for c in captions if c in OBJECTS and OBJECTS[c].front == OBJECTS[c].back]
    counts = Counter(obj.front if FREE[prompt] == "color" else obj.shape for obj in plain)
    counts[OTHER] = len(captions) - len(plain)
    return torch.tensor([counts[kind] for kind in [*kinds(prompt), OTHER]])


def matches(prompt: str, captions: list[str]) -> int:
    """How many captions have the attribute that a partial prompt names."""
    attribute = prompt.split()[1]
    return sum(c in OBJECTS and attribute in (OBJECTS[c].shape, OBJECTS[c].front) for c in captions)


def _cost(rows: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "PSNR dB": f"{statistics.median(r['psnr'] for r in rows):.1f}",
        "evaluations": sum(r["nfe"] for r in rows) // len(rows),
        "seconds": f"{statistics.median(r['seconds'] for r in rows):.0f}",
    }


def partial_table(prompt: str, results: Results, methods: list[str]) -> str:
    """The table of a partial prompt: the model's pictures first, then each method, compared with them."""

    def line(captions: list[str]) -> dict[str, Any]:
        counts = dict(zip([*kinds(prompt), OTHER], histogram(prompt, captions).tolist(), strict=True))
        return {"samples": len(captions), **counts, "as asked": matches(prompt, captions)}

    flat = results.data["flat"][prompt]
    reference, lines = histogram(prompt, flat), {"the model's pictures": line(flat)}
    for method in methods:
        rows = results.of(prompt, method)
        if rows:
            single, whole = (histogram(prompt, [r[key] for r in rows]) for key in ("pictured", "nearest"))
            lines[method] = line([r["pictured"] for r in rows]) | {
                "χ² p": two_sample_chi_square(single, reference).p,
                "TV": total_variation(single, reference / reference.sum()),
                "p, 16 views": two_sample_chi_square(whole, reference).p,
                **_cost(rows),
            }
    return measure_table(lines)


def coloured_table(prompts: list[str], results: Results, method: str) -> str:
    """The table of two-coloured prompts by one method: how often front, back and shape are right."""
    lines: dict[str, dict[str, Any]] = {}
    everything: list[dict[str, Any]] = []
    for prompt in [*prompts, f"all, {method}"]:
        rows = results.of(prompt, method) if prompt in TWO_COLOURED else everything
        everything += rows if prompt in TWO_COLOURED else []
        if rows:
            pairs = [(OBJECTS[r["nearest"]], TWO_COLOURED[r["prompt"]]) for r in rows]
            lines[prompt] = {
                "NeRFs": len(rows),
                "front right": sum(f.front == w.front for f, w in pairs),
                "back right": sum(f.back == w.back for f, w in pairs),
                "both right": sum((f.front, f.back) == (w.front, w.back) for f, w in pairs),
                "shape right": sum(f.shape == w.shape for f, w in pairs),
                **_cost(rows),
            }
    return measure_table(lines)


def write(results: Results, prompts: list[str], methods: list[str], seeds: list[int], options: list[str]) -> str:
    """Writes OUT/diversity.md, contact sheets and histograms; returns the text.

    The command that the text shows ends in `options`, further words of the command line.
    """
    out = results.out
    groups = [name for name, members in GROUPS.items() if set(members) <= set(prompts)]
    rest = [prompt for prompt in prompts if not any(prompt in GROUPS[name] for name in groups)]
    command = ["pullback", "evaluate", "diversity", "--prompts", ",".join(groups + rest), "--seeds", ranges(seeds)]
    command += [word for method in methods for word in ("--method", method)] + [*options, "--out", str(out)]
    commits = sorted({r["commit"] for r in results.rows})
    what = "\n".join(f"- {m}: {studio.parse(m)}" for m in methods)
    text = HEAD.format(command=shlex.join(command), commits=", ".join(commits), what=what)
    coloured = [p for p in prompts if p in TWO_COLOURED]
    for prompt in (p for p in prompts if p in FREE):
        free, attribute = ("colour", "shape") if FREE[prompt] == "color" else ("shape", "colour")
        count, several = len(results.data["flat"][prompt]), results.data.get("views_at_once", 1)
        pictures = SEVERAL.format(several=several) if several > 1 else SINGLE
        text += PARTIAL.format(prompt=prompt, free=free, attribute=attribute, count=count, pictures=pictures)
        text += partial_table(prompt, results, methods)
        text += _sheet(results, out, prompt, [prompt], methods, 64) + _bars(results, out, prompt, methods)
    if coloured:
        used = [method for method in methods if any(results.of(p, method) for p in coloured)]
        text += COLOURED + "\n".join(coloured_table(coloured, results, method) for method in used)
        text += _sheet(results, out, "two-coloured", coloured, methods, 48)
    whole.write(out / "diversity.md", text)
    return text


def _sheet(results: Results, out: Path, name: str, prompts: list[str], methods: list[str], most: int) -> str:
    groups = {
        method: [
            (saved_picture(out, p, method, r["seed"]), p in TWO_COLOURED and not _right(r))
            for p in prompts
            for r in results.of(p, method)
        ]
        for method in methods
    }
    groups = {method: group for method, group in groups.items() if group}
    if not groups:
        return ""
    file = out / f"{name.replace(' ', '-')}.png"
    contact_sheet(file, groups, most)
    return f"\n![{name}: four views of each, colours not right in a red frame]({file.name})\n"


def _right(row: dict[str, Any]) -> bool:
    obj, target = OBJECTS[row["nearest"]], TWO_COLOURED[row["prompt"]]
    return (obj.front, obj.back) == (target.front, target.back)


def _bars(results: Results, out: Path, prompt: str, methods: list[str]) -> str:
    target = histogram(prompt, results.data["flat"][prompt]).double()
    shares = {}
    for method in methods:
        counts = histogram(prompt, [r["pictured"] for r in results.of(prompt, method)]).double()
        if counts.sum():
            shares[method] = (counts / counts.sum(), target / target.sum())
    if not shares:
        return ""
    file = out / f"{prompt.replace(' ', '-')}-histogram.png"
    chart.histograms(file, shares)
    names = ", ".join([*kinds(prompt), OTHER])
    return f"\n![Shares of {names}; dark line: the model's pictures]({file.name})\n"
