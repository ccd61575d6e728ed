"""A page of many runs: the samples of each prompt side by side, all turned in step."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import webpage

HERE = Path(__file__).parent
FRAMES = 24
"""Most frames of a sample."""
SIZE = 192
"""Pixels of a frame's height."""


@dataclass(frozen=True)
class Sample:
    """A run's sample.

    Attributes:
        prompt: What it shows.
        seed: Of the sample.
        consistency: Its self-consistency, lower is better; None where the run has none.
        started: When, as text that sorts by time.
        pictures: Files of views all round it, in order; one for a picture or a panorama.
        kind: What else tells it from others of the prompt, such as its model; "" for nothing.
        link: Address of its own page; "" for none.
    """

    prompt: str
    seed: int
    consistency: float | None
    started: str
    pictures: Sequence[Path]
    kind: str = ""
    link: str = ""


def render(title: str, samples: Sequence[Sample], notes: Sequence[str] = ()) -> str:
    """Returns the text of the page; prompts in alphabetical order, and the lowest self-consistency first.

    Args:
        title: Of the page.
        samples: What it shows.
        notes: Sentences below the title.

    Raises:
        UserError: Jinja is not installed.
    """

    def rank(sample: Sample) -> tuple[bool, float, int]:
        return sample.consistency is None, sample.consistency or 0.0, sample.seed

    groups: dict[str, list[dict[str, Any]]] = {}
    for sample in sorted(samples, key=lambda sample: (sample.prompt, *rank(sample))):
        groups.setdefault(sample.prompt, []).append({**vars(sample), **_strip(sample.pictures)})
    return webpage.render(
        HERE, "gallery", "the gallery", {}, styles=[webpage.BASE],
        title=title, groups=groups, count=len(samples), notes=notes,
    )  # fmt: skip


def _strip(pictures: Sequence[Path]) -> dict[str, Any]:
    """Pictures side by side as one WebP; at most FRAMES of them, evenly spread."""
    from PIL import Image

    count = min(FRAMES, len(pictures))
    chosen = [pictures[i * len(pictures) // count] for i in range(count)]
    frames = []
    for file in chosen:
        with Image.open(file) as picture:
            width = SIZE * (2 if picture.width == 2 * picture.height else 1)
            frames.append(picture.convert("RGB").resize((width, SIZE), Image.Resampling.LANCZOS))
    strip = Image.new("RGB", (sum(frame.width for frame in frames), SIZE))
    for i, frame in enumerate(frames):
        strip.paste(frame, (i * frame.width, 0))
    content = io.BytesIO()
    strip.save(content, "WEBP", quality=80)
    wide = frames[0].width > SIZE
    return {"strip": webpage.picture(content.getvalue(), "webp"), "frames": count, "wide": wide}
