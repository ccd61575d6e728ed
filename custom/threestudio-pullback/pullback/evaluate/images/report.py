"""Tables and pictures of `pullback evaluate images`."""

from __future__ import annotations

import shlex
import statistics
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch.nn.functional as F
from torch import Tensor

from ...output import chart, whole
from ...output.contact_sheet import grid
from ...output.markdown import measure_table
from ...output.pictures import save_png
from ..campaign import model_option, write_json
from .campaign import Extent
from .measures import measure
from .methods import ABLATION, METHODS
from .results import Results
from .samples import Settings

BAR = 25.0  # dB, of the median
ACROSS = 16  # pictures in a row
NAMES = {"ours": "pulled back", "reference": "the model's own (DDIM)", "sds": "SDS", "sjc": "SJC"}


def write(results: Results, extent: Extent, path: str) -> str:
    """Writes OUT/images.md, its pictures and images-figures.json; returns the text."""
    figures, out, scales = measure(results, extent), results.out, extent.scales
    write_json(out / "images-figures.json", figures)
    settings = results.data["settings"]
    defaults = vars(Settings())
    command = ["pullback", "evaluate", "images", "--samples", str(extent.samples), "--scales", _list(scales)]
    command += ["--few", str(extent.few), *(["--curve", _list(extent.curve)] if extent.curve else [])]
    command += ["--ablated", str(extent.ablated), "--seed", str(results.seed), *model_option(path), "--out", str(out)]
    command += [f"{key}={value}" for key, value in settings.items() if value != defaults[key]]
    text = TOP.format(
        command=shlex.join(command), commits=", ".join(sorted({r["commit"] for r in results.rows})),
        model=results.data["model"], settings=", ".join(f"{k} {v:g}" for k, v in settings.items()),
    )  # fmt: skip
    text += SAMES + measure_table({f"guidance {s:g}": _agreement(v) for s, v in figures["psnr"].items() if v})
    for scale in scales:
        sets = {method: results.pictures(method, scale) for method in ("ours", "reference")}
        text += _sheet(results, out, f"guidance-{scale:g}", sets)
    if figures["halves"]:
        text += SETS + measure_table(_sets(figures["halves"]))
    if figures["curves"]:
        text += CURVES + measure_table(_lines(figures["curves"]))
        chart.lines(out / "curves.png", _panels(figures["curves"]))
        text += "\n![KID, with its interval, and diversity over guidance](curves.png)\n"
        for scale in extent.curve:
            sets = {method: results.pictures(method, scale)[: extent.few] for method in NAMES}
            text += _sheet(results, out, f"curve-{scale:g}", sets)
    text += _large(results, out, scales) + _ablation(results, out, figures["ablation"])
    whole.write(out / "images.md", text)
    return text


TOP = """# SIREN images against the model's own samples

`{command}`

Model {model}, commit {commits}.
Settings: {settings}.
Sample i has its own prompt, drawn from eight, its own noise and its own SIREN. The reference is the model's DDIM
(Euler, the same levels) from y = σ_max ε, decoded; ours starts from the same y.
"""
SAMES = """
## The same picture?

PSNR in dB of each SIREN to the reference of the same noise; the bar is a median of 25.

"""
SETS = """
## The same distribution?

KID by the studio classifier's features, between even samples of one set and odd ones of the other, so that no two share
their noise; intervals of 95 % by the jackknife. "floor": the reference against itself.

"""
CURVES = """
## Over guidance

KID to 256 exact pictures of the world (prompts drawn alike, what one leaves open drawn uniformly), diversity within a
prompt (mean distance of features), network evaluations and seconds of one core for a sample. At guidance 0 the prompt
has no say.

"""


def _list(values: Iterable[float]) -> str:
    return ",".join(f"{value:g}" for value in values)


def _agreement(values: list[float]) -> dict[str, Any]:
    median = statistics.median(values)
    fifth = statistics.quantiles(values, n=20, method="inclusive")[0] if len(values) > 1 else values[0]
    return {
        "samples": len(values), "median": f"{median:.1f}", "5 %": f"{fifth:.1f}", "least": f"{min(values):.1f}",
        "share ≥ 25": f"{statistics.mean(v >= BAR for v in values):.2f}", "bar": "met" if median >= BAR else "missed",
    }  # fmt: skip


def _kid(interval: dict[str, float]) -> str:
    return f"{interval['kid']:.3g} ({interval['low']:.3g} to {interval['high']:.3g})"


def _sets(halves: dict[float, Any]) -> dict[str, dict[str, Any]]:
    lines = {}
    for scale, pair in halves.items():
        lines[f"guidance {scale:g}"] = {
            "even, odd": _kid(pair["ours"][0]), "odd, even": _kid(pair["ours"][1]),
            "floor": _kid(pair["reference"]),
            "contains 0": "both" if all(v["low"] <= 0 <= v["high"] for v in pair["ours"]) else "not both",
            "diversity, ours and reference": " and ".join(f"{v:.3f}" for v in pair["diversity"].values()),
        }  # fmt: skip
    return lines


def _lines(curves: dict[str, dict[float, dict[str, float]]]) -> dict[str, dict[str, Any]]:
    return {
        f"{NAMES[method]}, guidance {scale:g}": {
            "KID": _kid(v), "diversity": f"{v['diversity']:.3f}",
            "evaluations": f"{v['evaluations']:.0f}", "seconds": f"{v['seconds']:.1f}",
        }
        for method, line in curves.items() for scale, v in line.items()
    }  # fmt: skip


def _panels(curves: dict[str, dict[float, dict[str, float]]]) -> list[chart.Panel]:
    """KID with its intervals, and diversity, over guidance."""
    panels = []
    for title, keys in (("KID to exact pictures", ("kid", "low", "high")), ("diversity", ("diversity",))):
        drawn = {
            NAMES[method]: [(scale, *(v[key] for key in keys)) for scale, v in sorted(curves[method].items())]
            for method in NAMES if method in curves
        }  # fmt: skip
        panels.append(chart.Panel(title, "guidance", drawn))
    return panels


def _sheet(results: Results, out: Path, name: str, sets: dict[str, Tensor]) -> str:
    rows = {method: pictures[:ACROSS] for method, pictures in sets.items() if len(pictures)}
    if not rows:
        return ""
    save_png(out / f"{name}.png", grid(list(rows.values()), 1))
    names = ", ".join(NAMES.get(method, METHOD_NAMES.get(method, method)) for method in rows)
    return f"\n![{name}; rows: {names}]({name}.png)\n"


def _large(results: Results, out: Path, scales: list[float]) -> str:
    for scale in scales:
        large = results.pictures("ours", scale, "large")[:4]
        if len(large):
            small = results.pictures("ours", scale)[: len(large)]
            up = F.interpolate(small, large.shape[-2:], mode="bicubic")
            save_png(out / "large.png", grid([up, large], 1))
            return (
                f"\n## Any resolution\n\n![64 px, enlarged bicubically (above), and the same SIRENs rendered at "
                f"{large.shape[-1]} px (below), guidance {scale:g}](large.png)\n"
            )
    return ""


METHOD_NAMES = {
    "ours": "(JᵀJ)⁺Jᵀ by Adam", "gauss-newton": "(JᵀJ)⁺Jᵀ by Gauss–Newton", "chain-rule": "Jᵀ, best step",
    "chain-rule-adam": "Jᵀ, one step of Adam",
}  # fmt: skip


def _ablation(results: Results, out: Path, figures: dict[str, Any]) -> str:
    if not figures:
        return ""
    text = "\n## Without the inverse metric\n\nGuidance 1, the same levels, noise and networks at the start.\n\n"
    text += "".join(f"- {METHOD_NAMES[m]}: {(METHODS[m].__doc__ or '').strip().splitlines()[0]}\n" for m in figures)
    text += "\n" + measure_table({
        METHOD_NAMES[method]: {
            "samples": len(v["psnr"]), "PSNR, median": f"{statistics.median(v['psnr']):.1f}",
            "least": f"{min(v['psnr']):.1f}", "last residual": v["residual"], "seconds": f"{v['seconds']:.1f}",
        }
        for method, v in figures.items()
    })  # fmt: skip
    count = len(results.pictures(ABLATION[0], 1.0))
    sets = {method: results.pictures(method, 1.0)[:count] for method in ("reference", *figures)}
    return text + _sheet(results, out, "ablation", sets)
