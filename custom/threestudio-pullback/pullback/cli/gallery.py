"""`pullback gallery`: many runs on one page."""

from __future__ import annotations

import argparse
import functools
import glob
import os
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from ..errors import UserError

if TYPE_CHECKING:  # they need packages that `pullback --help` does without
    from ..host import record
    from ..output import gallery

EXAMPLES = """examples:
  pullback gallery outputs/demo
  pullback gallery "outputs/*/a-red-cube-*" --out red-cubes.html

All samples of a prompt stand side by side and turn in step, the lowest self-consistency first. The page is one file and
needs no network; each sample leads to its run's own page."""


def add_gallery(commands: Any) -> None:
    """Adds the command to an argparse's sub-commands."""
    parser = commands.add_parser("gallery", help="put many runs on one page, side by side", epilog=EXAMPLES)
    parser.add_argument(
        "runs", nargs="+", metavar="DIR|GLOB", help="folders of runs, at any depth, or patterns of them"
    )
    parser.add_argument("--out", type=Path, help="the page (default gallery.html in DIR, or here)")
    parser.set_defaults(run=run_gallery)


def run_gallery(args: argparse.Namespace) -> int:
    """Writes the page and says where it is."""
    from ..host import page, record
    from ..output import gallery, whole

    out = args.out
    if out is None:
        only = args.runs[0] if len(args.runs) == 1 and os.path.isdir(args.runs[0]) else "."
        out = Path(only) / "gallery.html"
    found = []
    for folder in folders(args.runs):
        try:
            found.append(record.read(folder))
        except UserError as error:
            print(f"left out: {error}", file=sys.stderr)
    for run in found:
        if run.picture is None:
            print(f"left out: {run.folder} has no picture yet", file=sys.stderr)
    found = [run for run in found if run.picture is not None]
    if not found:
        raise UserError(f"there is no run with pictures in {', '.join(args.runs)}; give the folder that holds the runs")
    models, variants = {run.model for run in found}, [variant(run.folder) for run in found]
    if len(set(variants)) == 1:
        variants = [""] * len(found)
    several = len(models) > 1
    samples = [sample(run, out.parent, several, own) for run, own in zip(found, variants, strict=True)]
    notes = []
    if any(page.cannot_tell(run) for run in found):
        notes.append(
            "Self-consistency is no verdict where a model moves its own pictures as far; then the pictures tell."
        )
    whole.write(out, gallery.render(f"{len(samples)} samples" if len(samples) > 1 else "A sample", samples, notes))
    print(f"Look at:\n  page       {out}")
    return 0


def folders(patterns: list[str]) -> list[Path]:
    """The folders of runs that are, or lie below, what the patterns name; each once, by name.

    Raises:
        UserError: A pattern names nothing.
    """
    found: dict[str, Path] = {}
    for pattern in patterns:
        places = [pattern] if os.path.exists(pattern) else glob.glob(pattern, recursive=True)
        if not places:
            raise UserError(f"there is no {pattern}; give a folder of runs, or a pattern in quotes")
        for place in places:
            for parsed in glob.glob(os.path.join(glob.escape(place), "**", "configs", "parsed.yaml"), recursive=True):
                folder = Path(parsed).parents[1]
                found.setdefault(os.path.realpath(folder), folder)
    return [found[key] for key in sorted(found)]


def variant(folder: Path) -> str:
    """What tells a run of a sweep, or of a comparison, from the others of its prompt and seed; "" of another run.

    Raises:
        UserError: A plan of the sweep is damaged.
    """
    own = Path(os.path.abspath(folder)).parent
    return _labels(own.parents[1]).get(own.name, "") if own.parent.name == "runs" else ""


@functools.cache
def _labels(out: Path) -> dict[str, str]:
    """Name of a variant → its label, where a folder is a sweep's."""
    from ..sweep.folder import Folder

    if not (out / "plans").is_dir():
        return {}
    sweep = Folder(out)
    sweep.units()
    return {name: variant.label for name, variant in sweep.variants.items()}


def sample(run: record.Record, where: Path, several: bool, variant: str = "") -> gallery.Sample:
    """A run as the gallery shows it.

    Args:
        run: Has a picture.
        where: The gallery's folder.
        several: Whether the gallery has runs of several models.
        variant: How it was made, where the gallery has runs of several ways.
    """
    from ..host.page import NAME
    from ..output import gallery

    assert run.picture is not None
    own = run.folder / NAME
    views = [run.picture] if run.panorama else sorted(run.picture.parent.glob("*.png"), key=_number)
    kind = [variant] if variant else []
    kind += [os.path.basename(run.model.rstrip("/"))] if several else []
    if run.picture.parent.name == "save":
        views, kind = [run.picture], [*kind, "not at its end"]  # a grid as it went
    return gallery.Sample(
        prompt=run.prompt, seed=run.seed, consistency=run.last("consistency"), started=run.started, pictures=views,
        kind=", ".join(kind),
        link=quote(os.path.relpath(own, where)) if own.is_file() else "",
    )  # fmt: skip


def _number(file: Path) -> int:
    match = re.fullmatch(r"(\d+)", file.stem)
    return int(match[1]) if match else 0
