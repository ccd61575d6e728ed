"""Charts as PNG files: lines with intervals, and histograms. Drawn by matplotlib, without its global state (pyplot)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from .pictures import save_image, to_image

# Okabe & Ito's colours, which the colour-blind can tell apart, and a marker of its own for each
STYLES = (("#0072b2", "o"), ("#1e1e1e", "s"), ("#d55e00", "D"), ("#009e73", "^"), ("#e69f00", "v"), ("#cc79a7", "P"))
BAR, MARK, AIM = (70, 110, 180), (220, 0, 0), (20, 20, 20)
DPI = 100


@dataclass(frozen=True)
class Panel:
    """Axes with curves by name, each of points (x, y) or (x, y, low, high): the ends of y's interval."""

    title: str
    x_label: str
    curves: Mapping[str, Sequence[Sequence[float]]]


def lines(file: Path, panels: Sequence[Panel], log: bool = False) -> None:
    """Draws panels side by side under one legend. The points' x are the ticks.

    Args:
        file: the PNG.
        panels: one or more; a curve has the same style in all.
        log: both axes are logarithmic (x and y above 0), and all panels have one y; else the x stand at equal
            distances and 0 is in sight.

    Raises:
        ValueError: a panel has more curves than there are styles.
    """
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogLocator, StrMethodFormatter

    figure = Figure(figsize=(4.2 * len(panels), 3.3), dpi=2 * DPI, layout="constrained")
    names = list(dict.fromkeys(name for panel in panels for name in panel.curves))
    styles, handles = dict(zip(names, STYLES[: len(names)], strict=True)), {}
    for axes, panel in zip(figure.subplots(1, len(panels), squeeze=False, sharey=log)[0], panels, strict=True):
        ticks = sorted({point[0] for curve in panel.curves.values() for point in curve})
        for i, (name, curve) in enumerate(panel.curves.items()):
            aside = 0.08 * (i - (len(panel.curves) - 1) / 2)  # so that no curve hides another
            x = [point[0] if log else ticks.index(point[0]) + aside for point in curve]
            ends = [(y - low, high - y) for _, y, low, high in curve] if len(curve[0]) == 4 else None
            colour, marker = styles[name]
            handles[name] = axes.errorbar(
                x, [point[1] for point in curve], ends and list(zip(*ends, strict=True)),
                color=colour, marker=marker, markersize=4, linewidth=1.5, elinewidth=1,
            )  # fmt: skip
        if log:
            axes.set(xscale="log", yscale="log")
            axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axes.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
            axes.minorticks_off()
        else:
            axes.axhline(0, color="#c8c8c8", linewidth=1, zorder=0)
        axes.set_xticks(ticks if log else range(len(ticks)), [f"{x:,g}" for x in ticks])
        axes.tick_params(labelsize=8)
        axes.grid(color="#e2e2e2", linewidth=0.5)
        axes.spines[["top", "right"]].set_visible(False)
        axes.set_title(panel.title, loc="left", fontsize=10)
        axes.set_xlabel(panel.x_label, fontsize=9)
    figure.legend(handles.values(), handles, loc="outside upper center", ncols=len(handles), frameon=False, fontsize=9)
    _save(figure, file)


def histograms(
    file: Path,
    shares: Mapping[str, tuple[Tensor, Tensor]],
    width: int = 640,
    height: int = 90,
    icons: Tensor | None = None,
    blended: Mapping[str, Tensor] | None = None,
) -> None:
    """Draws a row of bars for every method, one for every mode's share, with a dark line where it should end.

    Args:
        file: the PNG.
        shares: label -> shares [K], and the right shares [K]. All rows have one scale.
        width: of a row's bars, in pixels.
        height: of a row's bars, in pixels.
        icons: what the modes look like [K,3,H,W] in [-1,1], drawn below the bars.
        blended: label -> the part of the shares that are blends [K], drawn in red.
    """
    from matplotlib.figure import Figure

    top = max(float(part.max()) for pair in shares.values() for part in pair)
    row, foot = height + 22, 0 if icons is None else round(width / len(icons)) + 4
    tall = len(shares) * row + foot
    figure = Figure(figsize=(width / DPI, tall / DPI), dpi=DPI)
    for i, (label, (share, aim)) in enumerate(shares.items()):
        count = len(share)
        axes = figure.add_axes(
            (0, 1 - (i * row + 18 + height) / tall, 1, height / tall), xlim=(0, count), ylim=(0, top)
        )
        axes.set_axis_off()
        # without smoothing, so that an edge has no third colour
        places, bar = [k + 0.5 for k in range(count)], {"width": 2 / 3, "linewidth": 0, "antialiased": False}
        axes.bar(places, share.tolist(), color=_colour(BAR), **bar)
        if blended and label in blended:
            axes.bar(places, blended[label].tolist(), color=_colour(MARK), **bar)
        axes.hlines(
            aim.tolist(), range(count), range(1, count + 1), _colour(AIM), linewidth=72 / DPI, antialiased=False
        )
        figure.text(3 / width, 1 - (i * row + 15) / tall, label, fontsize=8, parse_math=False)
    if icons is not None:
        axes = figure.add_axes((0, 0, 1, (foot - 2) / tall))
        for k, icon in enumerate(icons):
            axes.imshow(to_image(icon), extent=(k + 0.03, k + 0.97, 0, 1), aspect="auto", interpolation="nearest")
        axes.set(xlim=(0, len(icons)), ylim=(0, 1))
        axes.set_axis_off()
    _save(figure, file)


def _colour(rgb: tuple[int, int, int]) -> str:
    return "#{:02x}{:02x}{:02x}".format(*rgb)


def _save(figure: Any, file: Path) -> None:
    """As RGB; `savefig` would write an alpha channel."""
    import numpy as np
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from PIL import Image

    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    save_image(file, Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB"), optimize=True)
