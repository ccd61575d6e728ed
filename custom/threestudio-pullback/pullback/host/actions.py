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


def check_action(action: str, config: str, cfg: Any, blocks: dict[str, Any]) -> None:
    """Checks that there is something to test, and a surface to export.

    Args:
        action: train, validate, test or export.
        config: The config's file; where it is a run's own, the sentence names the run's checkpoint.
        cfg: The parsed config.
        blocks: Its blocks as plain dicts with all defaults.

    Raises:
        UserError: No checkpoint is named, or the geometry has no surface.
    """
    if action not in ("test", "export"):
        return
    system = blocks.get("system") or {}
    kind = str(system.get("geometry_type", ""))
    mesh = action == "export" and system.get("exporter_type") == "mesh-exporter"
    if mesh and is_registered(kind) and not hasattr(find(kind), "isosurface"):
        raise UserError(
            f"--export makes a mesh, but `system.geometry_type` is {kind}, which has no surface; --test saves its "
            "pictures, and the page of a panorama"
        )
    if cfg.resume is None and not any(_weights(block) for block in (system, system.get("geometry"))):
        folder = os.path.dirname(os.path.dirname(os.path.abspath(config)))
        own = os.path.relpath(os.path.join(folder, "ckpts", "last.ckpt"))
        where = own if os.path.isfile(own) else "outputs/…/ckpts/last.ckpt, of a run that --train has made"
        raise UserError(f"--{action} takes a checkpoint, and none is named; add resume={where}")


def _weights(block: Any) -> Any:
    return isinstance(block, dict) and block.get("weights")


def to_look_at(folder: str | Path) -> str:
    """The newest file of each kind in a run's folder that is worth opening, a line each; "" where there is none."""
    lines = []
    for kind, pattern in _SHOWN:
        files = [p for p in Path(folder).glob(pattern) if kind != "mesh" or p.suffix in _MESHES]
        if files:
            lines.append(f"  {kind:10s} {max(files, key=lambda p: p.stat().st_mtime)}")
    return "\n".join(["Look at:", *lines]) if lines else ""
