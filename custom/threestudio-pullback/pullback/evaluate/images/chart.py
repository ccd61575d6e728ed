"""KID and diversity over guidance scales, drawn with Pillow."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

# Okabe & Ito's colours, which the colour-blind can tell apart
COLOURS = ((0, 114, 178), (30, 30, 30), (213, 94, 0), (0, 158, 115))
WIDTH, HEIGHT, LEFT, TOP, FOOT = 420, 260, 54, 46, 30  # of one panel and its margins


def draw(file: Path, curves: Mapping[str, Mapping[float, Mapping[str, float]]], names: Mapping[str, str]) -> None:
    """Two panels, KID with its intervals and diversity; the scales stand at equal distances.

    curves: method -> scale -> kid, low, high, diversity. names: method -> what the legend says.
    """
    from PIL import Image, ImageDraw

    scales = sorted({scale for line in curves.values() for scale in line})
    sheet = Image.new("RGB", (2 * WIDTH, HEIGHT), "white")
    pen = ImageDraw.Draw(sheet)
    shown = [(method, colour) for method, colour in zip(names, COLOURS, strict=False) if method in curves]
    for i, (method, colour) in enumerate(shown):
        pen.text((LEFT + i * 180, 6), names[method], fill=colour)
    for panel, (key, low, high) in enumerate((("kid", "low", "high"), ("diversity",) * 3)):
        values = [v[k] for line in curves.values() for v in line.values() for k in (low, high)]
        bottom, top = min(0.0, *values), max(*values, 1e-9)
        left, right = panel * WIDTH + LEFT, (panel + 1) * WIDTH - 16

        def at(scale: float, value: float, left: int = left, right: int = right, ends: Any = (bottom, top)) -> Any:
            x = left + (scales.index(scale) + 0.5) / len(scales) * (right - left)
            return x, HEIGHT - FOOT - (value - ends[0]) / (ends[1] - ends[0]) * (HEIGHT - FOOT - TOP)

        pen.rectangle((left, TOP, right, HEIGHT - FOOT), outline=(150, 150, 150))
        pen.text((left, TOP - 16), "KID to exact pictures" if key == "kid" else "diversity", fill="black")
        for value in {bottom, 0.0, top}:
            pen.text((left - 46, at(scales[0], value)[1] - 6), f"{value:.3g}", fill="black")
        pen.line((left, at(scales[0], 0)[1], right, at(scales[0], 0)[1]), fill=(200, 200, 200))
        for scale in scales:
            pen.text((at(scale, 0)[0] - 8, HEIGHT - FOOT + 6), f"{scale:g}", fill="black")
        pen.text((right - 54, HEIGHT - 12), "guidance", fill="black")
        for i, (method, colour) in enumerate(shown):
            line = sorted(curves[method].items())
            aside = 6 * i - 3 * (len(shown) - 1)  # so that no method hides another
            points = [(at(scale, v[key])[0] + aside, at(scale, v[key])[1]) for scale, v in line]
            pen.line(points, fill=colour, width=2)
            for (x, y), (scale, v) in zip(points, line, strict=True):
                pen.ellipse((x - 3, y - 3, x + 3, y + 3), fill=colour)
                pen.line((x, at(scale, v[low])[1], x, at(scale, v[high])[1]), fill=colour)
    sheet.save(file)
