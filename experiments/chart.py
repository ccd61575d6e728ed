"""Line charts on logarithmic axes, drawn with Pillow."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

# Okabe & Ito's colours, which the colour-blind can tell apart, and a marker of its own for each
STYLES = [((120, 120, 120), "circle"), ((230, 159, 0), "square"), ((0, 158, 115), "diamond"), ((0, 114, 178), "up")]
INK, FRAME, GRID = (30, 30, 30), (110, 110, 110), (226, 226, 226)
DRAWN, KEPT = 4, 2  # pixels per unit while drawing and in the file: lines come out smooth, text sharp on fine screens
WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 400, 330, 50, 22, 62, 46  # of one panel and its margins, in units
MARK = 3.6


@dataclass(frozen=True)
class Panel:
    """Curves of points (x, y), all above 0, by name; the axes' ticks, whose ends bound them, low to high."""

    title: str
    x_label: str
    x_ticks: Sequence[float]
    y_ticks: Sequence[float]
    curves: Mapping[str, Sequence[tuple[float, float]]]


def loglog(file: Path, panels: list[Panel]) -> None:
    """Panels side by side under one legend, as a PNG. Points outside the axes are clipped at the frame."""
    image = Image.new("RGB", (WIDTH * len(panels) * DRAWN, HEIGHT * DRAWN), "white")
    draw = ImageDraw.Draw(image)
    for number, panel in enumerate(panels):
        _panel(image, panel, number * WIDTH)
    _legend(draw, list(panels[0].curves), image.width / DRAWN)
    size = (image.width * KEPT // DRAWN, image.height * KEPT // DRAWN)
    # few colours are enough and make a small file
    image.resize(size, Image.Resampling.LANCZOS).quantize(64).save(file, optimize=True)


def _panel(image: Image.Image, panel: Panel, offset: float) -> None:
    draw = ImageDraw.Draw(image)
    left, right, top, bottom = offset + LEFT, offset + WIDTH - RIGHT, TOP, HEIGHT - BOTTOM

    def place(x: float, y: float) -> tuple[float, float]:
        across = math.log(x / panel.x_ticks[0]) / math.log(panel.x_ticks[-1] / panel.x_ticks[0])
        up = math.log(y / panel.y_ticks[0]) / math.log(panel.y_ticks[-1] / panel.y_ticks[0])
        return left + across * (right - left), bottom - up * (bottom - top)

    for x in panel.x_ticks:
        at = place(x, panel.y_ticks[0])[0]
        _line(draw, [(at, top), (at, bottom)], GRID, 0.75)
        _text(draw, (at, bottom + 5), f"{x:,g}", 11, "ma")
    for y in panel.y_ticks:
        at = place(panel.x_ticks[0], y)[1]
        _line(draw, [(left, at), (right, at)], GRID, 0.75)
        _text(draw, (left - 6, at), f"{y:g}", 11, "rm")
    _line(draw, [(left, top), (left, bottom), (right, bottom)], FRAME, 1)
    _text(draw, (left, top - 9), panel.title, 13, "ls")
    _text(draw, ((left + right) / 2, bottom + 24), panel.x_label, 12, "ma")
    inside = image.copy()
    pen = ImageDraw.Draw(inside)
    for (colour, marker), points in zip(STYLES, panel.curves.values(), strict=False):
        places = [place(x, y) for x, y in points]
        _line(pen, places, colour, 2)
        for spot in places:
            _mark(pen, spot, colour, marker)
    edge = MARK + 1  # markers on the frame stay whole
    x0, y0, x1, y1 = (round(v * DRAWN) for v in (left - edge, top - edge, right + edge, bottom + edge))
    image.paste(inside.crop((x0, y0, x1, y1)), (x0, y0))


def _legend(draw: ImageDraw.ImageDraw, names: list[str], width: float) -> None:
    lengths = [34 + _font(12).getlength(name) / DRAWN + 22 for name in names]
    x = (width - sum(lengths) + 22) / 2
    for (colour, marker), name, length in zip(STYLES, names, lengths, strict=False):
        _line(draw, [(x, 18), (x + 26, 18)], colour, 2)
        _mark(draw, (x + 13, 18), colour, marker)
        _text(draw, (x + 34, 18), name, 12, "lm")
        x += length


def _font(size: float) -> ImageFont.FreeTypeFont:
    font = ImageFont.load_default(size * DRAWN)
    assert isinstance(font, ImageFont.FreeTypeFont), "Pillow without FreeType"
    return font


def _text(draw: ImageDraw.ImageDraw, at: tuple[float, float], text: str, size: float, anchor: str) -> None:
    draw.text((at[0] * DRAWN, at[1] * DRAWN), text, fill=INK, font=_font(size), anchor=anchor)


def _line(draw: ImageDraw.ImageDraw, points: list[tuple[float, float]], colour: tuple, width: float) -> None:
    draw.line([(x * DRAWN, y * DRAWN) for x, y in points], fill=colour, width=round(width * DRAWN), joint="curve")


def _mark(draw: ImageDraw.ImageDraw, at: tuple[float, float], colour: tuple, marker: str) -> None:
    x, y, r = at[0] * DRAWN, at[1] * DRAWN, MARK * DRAWN
    corners = {
        "square": [(-0.9, -0.9), (0.9, -0.9), (0.9, 0.9), (-0.9, 0.9)],
        "diamond": [(-1.2, 0), (0, -1.2), (1.2, 0), (0, 1.2)],
        "up": [(-1.1, 0.9), (0, -1.2), (1.1, 0.9)],
    }
    if marker == "circle":
        draw.ellipse((x - r, y - r, x + r, y + r), fill=colour)
    else:
        draw.polygon([(x + a * r, y + b * r) for a, b in corners[marker]], fill=colour)
