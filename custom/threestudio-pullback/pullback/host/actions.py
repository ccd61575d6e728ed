"""What an action of the command line needs beyond a config that can be read, and what a run leaves to look at."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from ..errors import UserError
from . import page
from .registry import find, is_registered

_SHOWN = (
    ("page", page.NAME),
    ("turntable", "save/*-test.mp4"),
    ("views", "save/*-grid.png"),
    ("as it went", "save/*-val.png"),
    ("panorama", "save/*-whole/panorama.html"),
    ("mesh", "save/*-export/*"),
)
_MESHES = (".glb", ".obj", ".ply")


def check_source(action: str, config: str, written: dict[str, Any]) -> None:
    """Checks that there is a checkpoint, or weights, to render or export, before anything else of the config is asked.

    Args:
        action: train, validate, test or export.
        config: The config's file; where it is a run's own, the sentence names the run's checkpoint.
        written: The config as files and the command line have it, without defaults.

    Raises:
        UserError: None is named.
    """
    system = written.get("system")
    blocks = [written, system, system.get("geometry")] if isinstance(system, dict) else [written]
    named = any(isinstance(block, dict) and (block.get("resume") or block.get("weights")) for block in blocks)
    if action == "train" or named:
        return
    folder = os.path.dirname(os.path.dirname(os.path.abspath(config)))
    own = os.path.relpath(os.path.join(folder, "ckpts", "last.ckpt"))
    where = own if os.path.isfile(own) else "outputs/…/ckpts/last.ckpt, of a run that --train has made"
    raise UserError(f"--{action} takes a checkpoint, and none is named; add resume={where}")


def check_surface(action: str, system: dict[str, Any]) -> None:
    """Checks that what --export makes a mesh of has a surface; UserError where it has none.

    Args:
        action: train, validate, test or export.
        system: That block of the config, with all defaults.
    """
    kind = str(system.get("geometry_type", ""))
    mesh = action == "export" and system.get("exporter_type") == "mesh-exporter"
    if mesh and is_registered(kind) and not hasattr(find(kind), "isosurface"):
        raise UserError(
            f"--export makes a mesh, but `system.geometry_type` is {kind}, which has no surface; --test saves its "
            "pictures, and the page of a panorama"
        )


def to_look_at(folder: str | Path) -> str:
    """The newest file of each kind in a run's folder that is worth opening, a line each; "" where there is none."""
    lines = []
    for kind, pattern in _SHOWN:
        files = [p for p in Path(folder).glob(pattern) if kind != "mesh" or p.suffix in _MESHES]
        if files:
            lines.append(f"  {kind:10s} {max(files, key=lambda p: p.stat().st_mtime)}")
    return "\n".join(["Look at:", *lines]) if lines else ""
