"""A comparison as `pullback compare` writes one, made up: moving shapes for turntables, figures from a fixed seed."""

from __future__ import annotations

import json
import math
import random
import statistics
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw

METHODS = {  # name: title, reference, share of right objects, calls to get half way, share of runs that diverge
    "pullback": ("Pulled-back sampling", "Savani et al. 2024", 0.95, 90, 0.0),
    "sds": ("SDS", "Poole et al. 2022 (DreamFusion)", 0.55, 420, 0.1),
    "sjc": ("SJC", "Wang et al. 2022", 0.5, 480, 0.2),
    "vsd": ("VSD", "Wang et al. 2023 (ProlificDreamer)", 0.75, 350, 0.2),
    "sdi": ("SDI", "Lukoianov et al. 2024", 0.85, 250, 0.05),
}
MEASURES = [
    (
        "right",
        "Right object",
        "quality",
        "higher",
        "share",
        "Nearest of the 216 exact objects, over 16 held-out views.",
    ),
    ("psnr", "PSNR", "quality", "higher", "dB", "Of 16 held-out views to the nearest exact object."),
    ("kid", "KID", "quality", "lower", "", "Bińkowski et al. 2018, eq. 4, on the features of the shapes classifier."),
    ("spread", "Spread over seeds", "diversity", "higher", "", "Mean pairwise feature distance over a prompt's seeds."),
    ("janus", "Front/back likeness", "consistency", "lower", "", "Cosine of the features of the front and the back."),
    ("nfe", "Denoiser calls", "cost", "lower", "", "Calls of the denoiser, each on one picture."),
    ("seconds", "Time", "cost", "lower", "s", "Wall clock of the run, loading left out."),
    ("memory", "Peak memory", "cost", None, "MB", "Largest resident set of the run's process."),
]
PROMPTS = ["a red cube", "a sphere", "a cone with a green front and a yellow back"]
COLORS = {"red": "#d03a2b", "green": "#2f9e58", "yellow": "#e0b12c", "blue": "#3b6fd1", "violet": "#8a54c7"}
REASONS = {
    "diverged": "11 of 16 views have a mean below 0.02 or a standard deviation below 0.012",
    "failed": "render has a NaN or infinity in view 3 (step 412)",
}


def write(
    folder: Path, methods: int = 5, prompts: list[str] = PROMPTS, seeds: int = 4, **changes: Any
) -> dict[str, Any]:
    """compare.json and turntables in folder; the data. `changes` go into the data before it is written."""
    draw = random.Random(5)
    names = list(METHODS)[:methods]
    runs = [_run(folder, draw, name, prompt, seed) for prompt in prompts for name in names for seed in range(seeds)]
    data = {
        "format": 1,
        "terms": {
            "budget": "nfe=960",
            "config": "configs/pullback-nerf-tiny.yaml",
            "model": "custom/threestudio-pullback/assets/tiny-sd",
            "commit": "1fb2825",
            "machine": "2 x Intel Xeon 2.60 GHz, 1 thread a run, no GPU",
            "command": f"pullback compare --methods {','.join(names)} --prompts prompts.txt --seeds 0-3 --out report/",
            "date": "2026-11-21",
            "notes": [
                "The guidance scale is that of each method's paper.",
                "VSD: its LoRA's training is in the budget.",
            ],
        },
        "methods": [
            {
                "name": name,
                "title": METHODS[name][0],
                "reference": METHODS[name][1],
                "settings": {"system.optimizer.args.lr": 0.05, "system.guidance.guidance_scale": 7.5},
                "steps": 60 if name == "pullback" else 960,
            }
            for name in names
        ],
        "prompts": prompts,
        "seeds": list(range(seeds)),
        "measures": [
            dict(zip(("name", "title", "group", "better", "unit", "source"), m, strict=True)) for m in MEASURES
        ],
        "summary": summary(runs, names),
        "runs": runs,
        **changes,
    }
    save(folder, data)
    return data


def save(folder: Path, data: dict[str, Any]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "compare.json").write_text(json.dumps(data, indent=1))


def summary(runs: list[dict[str, Any]], names: list[str]) -> list[dict[str, Any]]:
    rows = []
    for name in names:
        for measure, *_ in MEASURES:
            found = [run["measures"][measure] for run in runs if run["method"] == name and measure in run["measures"]]
            if found:
                mean = statistics.fmean(found)
                half = 1.96 * statistics.stdev(found) / math.sqrt(len(found)) if len(found) > 1 else 0.0
                low, high = (
                    (max(mean - half, 0.0), min(mean + half, 1.0)) if measure == "right" else (mean - half, mean + half)
                )
                row = {"mean": mean, "low": low, "high": high, "count": len(found)}
                rows.append({"method": name, "measure": measure, **row})
    return rows


def strip(shape: str, front: str, back: str, frames: int, size: int, blur: float = 0.0) -> Image.Image:
    """A shape that turns: its width goes with the angle, its colour changes from front to back."""
    picture = Image.new("RGB", (frames * size, size), "#e9eaec")
    pen = ImageDraw.Draw(picture)
    for frame in range(frames):
        angle = 2 * math.pi * frame / frames
        middle, half = (frame + 0.5) * size, size * 0.3
        wide = half * (0.75 + 0.25 * abs(math.cos(2 * angle)))
        box = (middle - wide, size / 2 - half, middle + wide, size / 2 + half)
        for color, left, right in (
            (front, box[0], box[2] - 2 * wide * (0.5 - 0.5 * math.cos(angle))),
            (back, box[2] - 2 * wide * (0.5 - 0.5 * math.cos(angle)), box[2]),
        ):
            part = Image.new("L", picture.size, 0)
            shade = ImageDraw.Draw(part)
            if shape == "sphere":
                shade.ellipse((middle - half, box[1], middle + half, box[3]), fill=255)
            elif shape == "cone":
                shade.polygon([(middle, box[1]), (box[2], box[3]), (box[0], box[3])], fill=255)
            else:
                shade.rectangle(box, fill=255)
            low, high = (0, right) if color is front else (left, picture.width)
            shade.rectangle((0, 0, low, size), fill=0) if low > 0 else None
            shade.rectangle((high, 0, picture.width, size), fill=0)
            picture.paste(color, mask=part)
        light = middle - wide * math.sin(angle) * 0.6
        pen.ellipse((light - 2, size * 0.3 - 2, light + 2, size * 0.3 + 2), fill="#ffffff")
    if blur:
        from PIL import ImageFilter

        picture = picture.filter(ImageFilter.GaussianBlur(blur))
    return picture


def _run(folder: Path, draw: random.Random, name: str, prompt: str, seed: int) -> dict[str, Any]:
    share, half_way, diverging = METHODS[name][2:]
    lucky = draw.random()
    status = "diverged" if lucky < diverging else "failed" if lucky > 0.97 and name != "pullback" else "done"
    words = prompt.split()
    shape = next((word for word in words if word in ("cube", "sphere", "cone")), "cube")
    colors = [COLORS[word] for word in words if word in COLORS] or [draw.choice(list(COLORS.values()))]
    right = draw.random() < share
    if not right:
        colors = [draw.choice(list(COLORS.values()))]
    turntable = None
    if status != "failed":
        file = folder / "turntables" / name / f"{prompt.replace(' ', '-')}-{seed}.webp"
        file.parent.mkdir(parents=True, exist_ok=True)
        picture = strip(shape, colors[0], colors[-1], 24, 64, 0.0 if right else 1.5)
        if status == "diverged":
            picture = Image.eval(picture, lambda value: value // 9)
        picture.save(file, quality=80)
        turntable = str(file.relative_to(folder))
    best = 24 * share + draw.gauss(0, 1)
    seconds = draw.uniform(50, 70) * (1.8 if name == "vsd" else 1.0)
    measures = {"nfe": 960, "seconds": seconds, "memory": draw.uniform(700, 900)}
    if status != "failed":
        measures |= {
            "right": float(right), "psnr": best, "kid": draw.uniform(0.5, 1.5) * (1.1 - share) / 10,
            "janus": draw.uniform(0.2, 0.6) * (1.5 - share), "spread": draw.uniform(0.1, 0.3) + 0.3 * share,
        }  # fmt: skip
    reached = 960 if status == "done" else 480
    curve = [
        {
            "nfe": nfe,
            "seconds": seconds * nfe / 960,
            "measures": {
                "psnr": 6 + (best - 6) * (1 - 0.5 ** (nfe / half_way)) + draw.gauss(0, 0.4),
                "right": float(right and nfe > half_way * draw.uniform(0.5, 2)),
            },
        }
        for nfe in range(60, reached + 1, 60)
    ]
    return {
        "method": name, "prompt": prompt, "seed": seed, "status": status, "reason": REASONS.get(status),
        "measures": measures, "curve": curve, "turntable": turntable, "frames": 24, "size": 64,
        "command": f'python launch.py --config outputs/report/{name}.yaml --train seed={seed} '
        f'system.prompt_processor.prompt="{prompt}" use_timestamp=false '
        f"exp_root_dir=/home/somebody/objects/outputs/report/runs name={name} tag={prompt.replace(' ', '-')}-{seed}",
    }  # fmt: skip
