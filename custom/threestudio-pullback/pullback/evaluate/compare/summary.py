"""The data of the report, OUT/compare.json: every run, and each method's measures with their intervals."""

from __future__ import annotations

import dataclasses
import platform
import re
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save
from torch import Tensor

from ... import models
from ...output import whole
from ...output.file_names import slug
from ...sweep.status import shortened
from ...version import commit
from .. import metrics
from ..campaign import write_json
from ..studio.held_out import held_out_cameras
from ..studio.model import pictures_from_all_round
from .judge import Judging, settled
from .report.table import wilson
from .runner import Comparison


@dataclass(frozen=True)
class Measure:
    """A column of the report.

    Attributes:
        group: quality, diversity, consistency, reliability or cost.
        better: higher, lower, or None where neither is better.
        unit: "" for none.
        source: What is measured, for a reader.
    """

    name: str
    title: str
    group: str
    better: str | None
    unit: str
    source: str


MEASURES = (
    Measure("right", "Right object", "quality", "higher", "share",
            "The nearest of the studio's 216 exact objects over 16 held-out views is what the prompt says; a run that "
            "diverged or failed is not right."),
    Measure("psnr", "PSNR to the nearest object", "quality", "higher", "dB",
            "Of 16 held-out views to the nearest of the studio's 216 exact objects; peak to peak 2."),
    Measure("clip_score", "CLIP score", "quality", "higher", "", "Hessel et al. 2021; mean over 16 held-out views."),
    Measure("r_precision", "CLIP R-precision", "quality", "higher", "share", "Park et al. 2021; among all prompts."),
    Measure("clip_iqa", "CLIP-IQA", "quality", "higher", "", "Wang et al. 2023; mean over 16 held-out views."),
    Measure("kid", "KID to the model's pictures", "quality", "lower", "",
            "Bińkowski et al. 2018, unbiased, mean over prompts of 3 seeds and more: views and the model's pictures."),
    Measure("blend", "Blends", "quality", "lower", "share",
            "The held-out views are farther than rms 0.05 from every scene of the world."),
    Measure("rms", "Distance to the nearest scene", "quality", "lower", "", "rms over the held-out views; range 2."),
    Measure("histogram", "Histogram's distance", "diversity", "lower", "TV",
            "Total variation between scenes found and the world's weights; a perfect sampler's is above 0 as well."),
    Measure("diversity", "Diversity over seeds", "diversity", "higher", "",
            "Mean distance of features between pairs of seeds of a prompt, view by view."),
    Measure("janus", "Front/back similarity", "consistency", None, "",
            "Cosine of the features of the front and of the back; near 1 for things alike all round (metrics.janus)."),
    Measure("second_front", "Back more like the front than the sides", "consistency", "lower", "",
            "Front/back similarity minus that of front and sides: above 0 for a second front (metrics.janus)."),
    Measure("consistent", "All views of one scene", "consistency", "higher", "share",
            "The nearest scene is the same in every held-out view, or looks the same from there."),
    Measure("agreement", "Held-out views agree", "consistency", "higher", "",
            "Mean cosine of the features of pairs of held-out views (metrics.agreement)."),
    Measure("nfe", "Denoiser calls", "cost", "lower", "", "Each view of each network evaluation counted singly."),
    Measure("renders", "Views rendered, forward and backward", "cost", "lower", "",
            "Rays of a fit counted as parts of views."),
    Measure("seconds", "Seconds of training", "cost", "lower", "s", "On the wall, start and evaluation left out."),
    Measure("memory", "Peak memory", "cost", "lower", "MB",
            "Of the process, with what runs before have left in it: an upper bound."),
)  # fmt: skip
PICTURES = 64
"""How many pictures of a prompt the model makes for KID."""


def write(
    comparison: Comparison, rows: list[dict[str, Any]], steps: dict[str, int], command: str, notes: list[str],
    reference: Reference | None,
) -> Path:  # fmt: skip
    """Writes OUT/compare.json.

    Args:
        comparison: What is compared.
        rows: Of its runs.
        steps: Of a run of each method.
        command: The command line.
        notes: Sentences for the reader.
        reference: The model's own pictures, for KID; None where there are no features.

    Returns:
        The file.
    """
    rows = [settled(row) for row in rows]
    summary = []
    for method in comparison.methods:
        own = [row for row in rows if row["method"] == method.name]
        summary += averages(method.name, own) + of_sets(method.name, own, comparison.out, reference)
    methods = [
        {"name": m.name, "title": m.title, "reference": m.reference, "settings": m.settings,
         "steps": steps[m.name]} for m in comparison.methods
    ]  # fmt: skip
    terms = {
        "budget": str(comparison.budget), "config": _shown(comparison.config), "command": command,
        "model": str(comparison.methods[0].config.system.prompt_processor.pretrained_model_name_or_path),
        "machine": machine(comparison.fleet.workers, comparison.fleet.threads, rows),
        "notes": notes + lacking(summary, comparison.judging, len(comparison.seeds)),
    }  # fmt: skip
    return assemble(comparison.out, terms, methods, comparison.prompts, comparison.seeds, summary, rows)


def assemble(
    out: Path, terms: dict[str, Any], methods: list[dict[str, Any]], prompts: list[str], seeds: list[int],
    summary: list[dict[str, Any]], rows: list[dict[str, Any]],
) -> Path:  # fmt: skip
    """Writes OUT/compare.json from its parts; returns the file."""
    shown = {entry["measure"] for entry in summary}
    data = {
        "format": 1, "terms": {"commit": commit(), "date": date.today().isoformat(), **terms}, "methods": methods,
        "prompts": prompts, "seeds": seeds,
        "measures": [dataclasses.asdict(measure) for measure in MEASURES if measure.name in shown],
        "summary": summary, "runs": rows,
    }  # fmt: skip
    file = out / "compare.json"
    write_json(file, data)
    return file


def averages(name: str, rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The mean of each measure over the runs of one method, with its 95 % interval.

    The interval is a bootstrap's; where all runs say yes, or all no, whose bootstrap has no width, it is Wilson's.
    """
    entries = []
    for measure in MEASURES:
        own = [row for row in rows if row["measures"].get(measure.name) is not None]
        if values := {(row["prompt"], row["seed"]): row["measures"][measure.name] for row in own}:
            interval = metrics.mean_interval(values)
            if measure.unit == "share" and set(values.values()) in ({0.0}, {1.0}):
                low, high = wilson(round(sum(values.values())), len(values))
                interval = interval._replace(low=low, high=high)
            entries.append(_entry(name, measure.name, interval))
    return entries


def lacking(summary: list[dict[str, Any]], judging: Judging, seeds: int) -> list[str]:
    """Sentences on the measures that no method has, and what each needs."""
    found = {entry["measure"] for entry in summary}
    features = "features, of the shipped model's world or by --clip FOLDER"
    needs = {"clip_score": "--clip FOLDER", "r_precision": "--clip FOLDER", "clip_iqa": "--clip FOLDER"}
    if judging.clip is None and not judging.studio:
        needs |= dict.fromkeys(("kid", "diversity", "janus", "second_front", "agreement"), features)
    else:
        needs |= {"kid": "three seeds of a prompt"} if seeds < 3 else {}
        needs |= {"diversity": "two seeds of a prompt"} if seeds < 2 else {}
    needs |= dict.fromkeys(("right", "psnr"), "prompts of the shipped model's world, and a model of it")
    reasons: dict[str, list[str]] = {}
    for measure in MEASURES:
        if measure.name in needs and measure.name not in found:
            reasons.setdefault(needs[measure.name], []).append(measure.title)
    return [f"Not measured: {', '.join(titles)}; needs {need}." for need, titles in reasons.items()]


def of_sets(name: str, rows: list[dict[str, Any]], out: Path, reference: Reference | None) -> list[dict[str, Any]]:
    """Diversity and KID of one method's rows, which are measures of several runs together; see `write`."""
    vectors: dict[str, list[Tensor]] = {}
    for row in rows:
        if row.get("features") and (file := out / row["features"]).exists():
            vectors.setdefault(row["prompt"], []).append(load_file(file)["views"])
    entries = []
    spread = {(prompt, 0): metrics.diversity(torch.stack(v)) for prompt, v in vectors.items() if len(v) > 1}
    if spread:
        entries.append(_entry(name, "diversity", metrics.mean_interval(spread)))
    if reference is not None:
        distances = {(p, 0): _distance(torch.stack(v), reference.of(p)) for p, v in vectors.items() if len(v) > 2}
        if distances:
            entries.append(_entry(name, "kid", metrics.mean_interval(distances)))
    return entries


def _distance(runs: Tensor, pictures: Tensor) -> float:
    """KID of one prompt's runs [S,V,D] to pictures [N,D] of it.

    The KID of all prompts together would be too low, because that set is balanced on purpose.
    """
    seeds = torch.arange(len(runs)).repeat_interleave(runs.shape[1])
    return metrics.kid(runs.flatten(0, 1), pictures, (seeds, torch.arange(len(pictures)))).value


def _entry(name: str, measure: str, interval: metrics.Interval) -> dict[str, Any]:
    return {
        "method": name, "measure": measure, "mean": interval.value, "low": interval.low, "high": interval.high,
        "count": interval.runs,
    }  # fmt: skip


class Reference:
    """Features of the model's own pictures of every prompt, made once and kept in OUT/reference/.

    Their views are those of the held-out cameras, by words; a model of several views has cameras of its own.

    Args:
        out: The comparison's folder.
        path: The model's folder or hub id.
        scale: Guidance scale, in diffusers' convention.
        extractor: The features.
    """

    def __init__(self, out: Path, path: str, scale: float, extractor: Any) -> None:
        self.out, self.path, self.scale, self.extractor = out / "reference", path, scale, extractor
        self.model: Any = None

    def of(self, prompt: str) -> Tensor:
        """The features [PICTURES,D] of the pictures of a prompt."""
        file = self.out / f"{slug(prompt)}-{self.scale:g}.safetensors"
        if not file.exists():
            print(f"For KID: {PICTURES} pictures of the model for '{shortened(prompt)}'", flush=True)
            self.model = self.model or models.load(self.path)
            views = held_out_cameras().repeat(-(-PICTURES // len(held_out_cameras())), 1, 1)[:PICTURES]
            pictures = pictures_from_all_round(self.model, prompt, views, self.scale)
            file.parent.mkdir(parents=True, exist_ok=True)
            whole.write(file, save({"pictures": self.extractor.images(pictures)}))
        return load_file(file)["pictures"]


def _shown(path: Path) -> str:
    whole = path.resolve()
    return str(whole.relative_to(Path.cwd()) if whole.is_relative_to(Path.cwd()) else path)


def machine(workers: int, threads: int, rows: list[dict[str, Any]]) -> str:
    """Processor, workers, threads and GPU of the runs, and their machines where they are several, for a reader."""
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else "none"
    name = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if match := re.search(r"^model name\s*:\s*(.*)", info.read_text() if info.exists() else "", re.M):
        name = match[1].strip()
    hosts = sorted({str(row["host"]) for row in rows if row.get("host")})
    where = f"; made on {', '.join(hosts)}, this is of the last" if len(hosts) > 1 else ""
    return f"{name}, {workers} runs at a time with {threads} thread(s) each, GPU {gpu}{where}"
