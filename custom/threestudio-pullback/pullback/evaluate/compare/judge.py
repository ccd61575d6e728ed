"""Measures of a run: how well its renders show the prompt, its cost, its turntable, its course."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor

from ...errors import NonFiniteError, check_finite
from ...output import whole
from ...output.pictures import save_image, to_image
from ...sweep.status import shortened
from .. import metrics
from ..metrics import features
from ..saved_run import SavedRun
from ..studio import captions, naming
from ..studio import classifier as studio_classifier
from ..studio import world as worlds
from ..studio.held_out import held_out_buffers, held_out_cameras
from ..trial import Course, Trial, read_course
from .plan import Method, batch_size

SIZE = 64
FRAMES = 24
"""Frames of the turntable; the first is the front."""


@dataclass(frozen=True)
class Judging:
    """What renders are compared with.

    Attributes:
        studio: Whether the model is the studio's: then prompts name exact objects, and features are its classifier's.
        clip: A folder with CLIP, for features and scores of other models, or None.
        prompts: All prompts of the comparison.
    """

    studio: bool
    clip: Path | None
    prompts: tuple[str, ...]


def judge(judging: Judging, method: Method, trial: Trial, reason: str | None, memory: int) -> dict[str, Any]:
    """Measures a run that has ended, and writes its turntable and its features.

    Args:
        judging: What renders are compared with.
        method: The run's method.
        trial: The run.
        reason: Why it failed; None if it did not.
        memory: Its peak memory in MB.

    Returns:
        status, reason, measures, curve, turntable, frames, size and features. The status is "done", or
        "diverged" where the run failed or `metrics.diverged` says so. Of a run that failed, whatever it saved is
        measured.
    """
    course = read_course(trial.folder, method.calls_per_step)
    measures = _cost(course, method, memory)
    row: dict[str, Any] = {
        "status": "diverged", "reason": reason, "measures": measures, "curve": [], "turntable": None, "frames": FRAMES,
        "size": SIZE, "features": None,
    }  # fmt: skip
    if not trial.checkpoint.exists():
        return row | {"reason": f"no output: {reason or 'no checkpoint'}"}
    run = SavedRun(trial.folder, trial.imports)
    views = torch.empty(0)
    for file in [*run.checkpoints(), trial.checkpoint]:
        if run.load(file) in (point["step"] for point in row["curve"]):
            continue  # last.ckpt is often a copy of the one before
        views = run.render(held_out_cameras(run.distance))
        try:
            check_finite(views, f"The render after step {run.step}")
        except NonFiniteError as error:
            return row | {"reason": reason or str(error)}
        row["curve"].append(_point(judging, run, views, course, trial.prompt))
    measures |= row["curve"][-1]["measures"]
    around = run.render(worlds.look_at(torch.full((FRAMES,), run.elevation_deg), _angles(FRAMES), run.distance))
    row["turntable"] = f"turntables/{trial.method}/{trial.tag}.webp"
    save_strip(trial.out / row["turntable"], around)
    if (extractor := features_of(judging)) is not None:
        vectors = extractor.images(views)
        row["features"] = f"features/{trial.method}/{trial.tag}.safetensors"
        file = trial.out / row["features"]
        file.parent.mkdir(parents=True, exist_ok=True)
        whole.write(file, save({"views": vectors}))
        level = worlds.look_at(torch.zeros(4), _angles(4), run.distance)  # from higher up, the back shows over the top
        both = metrics.janus(extractor.images(run.render(level)))
        measures |= {"janus": both.front_back, "second_front": both.excess, "agreement": metrics.agreement(vectors)}
    reason = reason or metrics.diverged(views) or _empty(judging, views)
    return settled(row | {"status": "diverged" if reason else "done", "reason": reason})


def settled(row: dict[str, Any]) -> dict[str, Any]:
    """A run's row in which a run that diverged or failed has not made the right object, whatever is nearest to it."""
    if row["status"] == "done" or "right" not in row["measures"]:
        return row
    return row | {"measures": row["measures"] | {"right": 0.0}}


def quality(judging: Judging, run: SavedRun, views: Tensor, prompt: str) -> dict[str, float]:
    """How well renders [V,3,N,N] in [-1,1] from the held-out cameras show the prompt."""
    scores: dict[str, float] = {}
    description = captions.parse(prompt) if judging.studio else None
    if description is not None:
        c2w, buffers = held_out_cameras(run.distance), held_out_buffers(SIZE, run.distance)
        match = naming.nearest_object(views, c2w, buffers, run.backdrop(c2w, SIZE))
        scores |= {"right": float(description.holds(match.obj)), "psnr": round(match.psnr, 3)}
    if judging.clip is not None:
        clip = features.load_clip(judging.clip)
        images, texts = clip.images(views), _texts(judging.clip, judging.prompts)
        own = judging.prompts.index(prompt)
        scores["clip_score"] = metrics.clip_score(images, texts[own])
        scores["r_precision"] = metrics.r_precision(images, texts, own)
        scores["clip_iqa"] = metrics.clip_iqa(images, _texts(judging.clip, metrics.GOOD_AND_BAD), clip.scale)
    return {name: float(value) for name, value in scores.items()}


def features_of(judging: Judging) -> Any:
    """The features for KID, diversity and consistency; None where the comparison has none."""
    if judging.studio:
        return studio_classifier.load_studio()
    return None if judging.clip is None else features.load_clip(judging.clip)


def sentence(row: dict[str, Any]) -> str:
    """A run in a few words."""
    shown = {"right": "right {:.0f}", "psnr": "{:.1f} dB", "clip_score": "CLIP {:.1f}", "nfe": "{:.0f} calls",
             "seconds": "{:.0f} s"}  # fmt: skip
    parts = [text.format(row["measures"][name]) for name, text in shown.items() if name in row["measures"]]
    verdict = ", ".join(parts) if row["status"] == "done" else f"{row['status']}: {row['reason']}"
    return f"{row['method']} · {shortened(row['prompt'])} · seed {row['seed']}: {verdict}"


def save_strip(path: Path, frames: Tensor) -> None:
    """Writes frames [F,3,H,W] in [-1,1] side by side, as WebP; makes the folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    save_image(path, to_image(torch.cat(list(frames), -1)), quality=85, method=6)


def _point(judging: Judging, run: SavedRun, views: Tensor, course: Course, prompt: str) -> dict[str, Any]:
    nfe, seconds = course.at(run.step)
    measures = quality(judging, run, views, prompt)
    return {"step": run.step, "nfe": nfe, "seconds": round(seconds, 2), "measures": measures}


def _empty(judging: Judging, views: Tensor) -> str | None:
    """Why a run of the studio counts as empty, or None: there even an empty picture has more than one colour."""
    if not judging.studio:
        return None
    empty = sum(view.shape is None for view in studio_classifier.load_studio().see(views))
    return f"{empty} of {len(views)} views show no object." if 2 * empty > len(views) else None


def _cost(course: Course, method: Method, memory: int) -> dict[str, float]:
    """The costs of a run: nfe, renders, seconds of training, memory (peak of the process in MB).

    renders: views that are rendered forward and backward; the rays of a fit count as parts of views.
    """
    if not course.steps:
        return {"memory": memory}
    data, steps = method.config.data, course.steps[-1]
    each = batch_size(data)
    options = method.config.system.guidance
    if "fit_steps" in options and options.get("fit_rays"):
        each += options.fit_steps * options.fit_rays / (data.width * data.height)
    renders, seconds = round(steps * each, 1), round(course.seconds[-1], 1)
    return {"nfe": course.nfe[-1], "renders": renders, "seconds": seconds, "memory": memory}


def _angles(count: int) -> Tensor:
    return torch.arange(count) * (360 / count)


@functools.cache
def _texts(clip: Path, words: tuple[str, ...]) -> Tensor:
    return features.load_clip(clip).texts(list(words))
