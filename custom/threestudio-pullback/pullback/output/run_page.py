"""The page of a run: one file to turn the object in, with what made it, its curves and its downloads."""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

from . import panorama_files, webpage

HERE = Path(__file__).parent
LIMIT = 3_000_000
"""Most bytes of a page; a file that would not fit lies beside it, and the page links to it."""
_RESERVE = 60_000  # the page's own text
HELP = (
    "Drag or use the arrow keys to turn it, the wheel or + and − to zoom, Home to go back to the start, S to keep it "
    "turning, L for a lamp."
)
_FILES = {"mesh": ("model/gltf-binary", "Mesh (glb)"), "video": ("video/mp4", "Video (mp4)")}


@dataclass(frozen=True)
class Curve:
    """A line chart.

    Attributes:
        title: What is drawn.
        meaning: What that is, in a few words.
        x: Steps.
        y: Values, finite.
        log: Whether y is on a logarithmic axis; all y are above 0 then.
    """

    title: str
    meaning: str
    x: Sequence[int]
    y: Sequence[float]
    log: bool = False


@dataclass(frozen=True)
class RunPage:
    """What is on the page.

    Attributes:
        title: The prompt.
        subtitle: A line below it.
        facts: Names and values.
        command: Repeats the run.
        settings: The whole config as text.
        name: Of downloads, without an ending.
        picture: A file with a picture of the sample; of a panorama, the panorama.
        panorama: Whether the picture is to be seen from inside.
        mesh: A glb file, or None.
        video: An mp4 file, or None.
        curves: Of the run's steps.
        lowest: Elevation in degrees below which no camera of the run was; the object is not shown from there.
    """

    title: str
    subtitle: str
    facts: Sequence[tuple[str, str]]
    command: str
    settings: str
    name: str
    picture: Path | None = None
    panorama: bool = False
    mesh: Path | None = None
    video: Path | None = None
    curves: Sequence[Curve] = field(default_factory=list)
    lowest: float = -90.0


def render(page: RunPage, folder: Path) -> str:
    """Returns the text of the page.

    Args:
        page: What is on it.
        folder: Where the page will lie, for links to files that are too large for it.

    Raises:
        UserError: Jinja is not installed.
    """
    styles = [webpage.BASE, webpage.WEB / "uplot.css", HERE / "stage.css"]
    scripts = [webpage.WEB / "uplot.js"]
    room = LIMIT - _RESERVE - len(page.settings.encode()) - 2 * sum(20 * len(curve.x) for curve in page.curves)
    room -= sum(file.stat().st_size for file in (*styles, *scripts))
    turning = [webpage.WEB / "three.js", HERE / "object_stage.js"]
    fits = page.mesh is not None and _inside(page.mesh) + sum(file.stat().st_size for file in turning) < room
    if fits:
        scripts += turning
    elif page.panorama:
        scripts += [HERE / "panorama_files.js"]
    kind = "object" if fits else "panorama" if page.panorama else "video" if page.video else "picture"
    inside: dict[str, bytes] = {}
    for name, file in (("mesh", page.mesh if fits else None), ("picture", page.picture), ("video", page.video)):
        if file is None:
            continue
        content = _small(file) if name == "picture" else file.read_bytes()
        if len(content) * 4 // 3 < room:
            inside[name] = content
            room -= len(content) * 4 // 3
    links = [
        _link(name, file, inside.get(name), page.name, folder)
        for name, file in (("mesh", page.mesh), ("video", page.video))
        if file is not None
    ]
    return webpage.render(
        HERE, "run_page", "the run's page", {}, styles=styles, scripts=scripts, page=page, kind=kind, downloads=links,
        help=panorama_files.HELP if kind == "panorama" else HELP, rows=_rows(page.curves),
        picture=webpage.address(inside["picture"], _kind(inside["picture"])) if "picture" in inside else "data:,",
        curves=[vars(curve) for curve in page.curves],
    )  # fmt: skip


def _inside(file: Path) -> int:
    """Bytes of a file in a page."""
    return file.stat().st_size * 4 // 3


def _small(file: Path, most: int = 800_000) -> bytes:
    """A picture's file, as a JPEG where it is large."""
    content = file.read_bytes()
    if len(content) <= most:
        return content
    from PIL import Image

    smaller = io.BytesIO()
    with Image.open(file) as picture:
        picture.convert("RGB").save(smaller, "JPEG", quality=90)
    return smaller.getvalue()


def _kind(picture: bytes) -> str:
    return "image/png" if picture.startswith(b"\x89PNG") else "image/jpeg"


def _link(kind: str, file: Path, content: bytes | None, name: str, folder: Path) -> dict[str, Any]:
    """A download: the file itself, or where it lies."""
    media_type, label = _FILES[kind]
    size = file.stat().st_size
    return {
        "kind": kind, "label": label, "name": name + file.suffix, "inside": content is not None,
        "address": quote(os.path.relpath(file, folder)) if content is None else webpage.address(content, media_type),
        "size": f"{size / 1e6:.1f} MB" if size >= 1e6 else f"{max(1, round(size / 1e3))} kB",
    }  # fmt: skip


def _rows(curves: Sequence[Curve]) -> list[list[str]]:
    """The curves as a table: a step, and the value of every curve there or nothing."""
    values = [dict(zip(curve.x, curve.y, strict=True)) for curve in curves]
    steps = sorted({step for curve in curves for step in curve.x})
    return [[str(step), *(f"{v[step]:.4g}" if step in v else "" for v in values)] for step in steps]
