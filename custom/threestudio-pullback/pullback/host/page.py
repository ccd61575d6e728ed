"""The end of a run for people: its mesh in one file, and the page that holds all of it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from ..errors import UserError
from ..output import run_page, whole
from ..output.file_names import slug
from .record import Record, read
from .registry import find, info, warn

NAME = "page.html"
# name of a logged value: title, meaning, whether it is drawn by its logarithm
_CURVES = {
    "residual": ("Residual", "rms between the target of a step and the fitted renders", False),
    "sigma": ("Noise level σ", "of the step", True),
}
_HIDDEN = {"epoch", "level", "cycle", "nfe", "residual_before"}


def save_mesh(system: Any) -> None:
    """Writes the surface as a glb with colours at its vertices, as --export does, where the geometry has a surface."""
    kind = str(system.cfg.get("exporter_type", ""))
    if kind != "mesh-exporter" or not hasattr(getattr(system, "geometry", None), "isosurface"):
        return
    parts = {name: getattr(system, name) for name in ("geometry", "material", "background")}
    try:
        exported = find(kind)({"fmt": "glb", "save_uv": False}, **parts)()
    except UserError as e:
        info(f"The page has no object to turn: {e}")
        return
    for output in exported:
        system.save_mesh(f"it{system.true_global_step}-export/{output.save_name}", **output.params)


def write(folder: Path | str) -> bool:
    """Writes page.html into a run's folder, where the run has pictures; warns where the page cannot be made.

    Returns:
        Whether it is written.
    """
    folder = Path(folder)
    if not (folder / "configs" / "parsed.yaml").is_file():
        return False  # another run's checkpoint was tested
    try:
        record = read(folder)
        if record.picture is not None:
            whole.write(folder / NAME, run_page.render(_page(record), folder))
            return True
    except UserError as e:
        warn("there is no page of the run: %s", e)
    return False


def _page(record: Record) -> run_page.RunPage:
    flat = record.picture is not None and not record.panorama and len(list(record.picture.parent.glob("*.png"))) == 1
    return run_page.RunPage(
        title=record.prompt,
        subtitle=" · ".join(filter(None, (f"seed {record.seed}", record.started, record.version))),
        facts=facts(record),
        command=record.command,
        settings=record.settings,
        name=f"{slug(record.prompt)}-{record.seed}",
        picture=record.picture,
        panorama=record.panorama,
        mesh=record.mesh,
        video=None if flat else record.video,  # of one picture
        curves=_curves(record),
        lowest=record.elevations[0] if record.elevations else -90.0,
    )


def facts(record: Record) -> list[tuple[str, str]]:
    """What a run was, by name."""
    guidance, last = record.guidance, record.last
    found = {"Seed": str(record.seed)}
    if record.model:
        found["Model"] = os.path.basename(record.model.rstrip("/")) if os.path.isdir(record.model) else record.model
    found["System"] = str(record.config.get("system_type", ""))
    if levels := record.values.get("sigma", {}).values():
        found["Noise levels"] = f"{guidance.get('levels', '?')}, σ {max(levels):.3g} to {min(levels):.3g}"
    if record.elevations and record.mesh is not None:
        found["Seen in the run from"] = "elevations of {:g}° to {:g}°".format(*record.elevations)
    named = {"noise": "Noise of the views", "constraint": "Constraint", "guidance_scale": "Guidance scale"}
    for key, name in named.items():
        if guidance.get(key) is not None:
            found[name] = str(guidance[key])
    if (calls := last("nfe")) is not None:
        found["Calls of the model"] = f"{calls:.0f}"
    if (consistency := last("consistency")) is not None:
        found["Self-consistency"] = f"{consistency:.3f}{_judged(record, consistency)}"
    return list(found.items())


def cannot_tell(record: Record) -> bool:
    """Whether the run's model moves its own pictures by more than the check resolves; see `Verdict.tells`."""
    threshold, floor = record.last("consistency_threshold"), record.last("consistency_floor")
    return threshold is not None and floor is not None and 2 * floor**2 > threshold**2


def _judged(record: Record, consistency: float) -> str:
    threshold = record.last("consistency_threshold")
    if threshold is None:
        return ""
    if cannot_tell(record):
        return ", rms; lower is better, but this model cannot tell a good object from a blend by it"
    return f", rms; {'below' if consistency <= threshold else 'above'} the threshold, {threshold:.3f}"


def _curves(record: Record) -> list[run_page.Curve]:
    """Every logged value that changes."""
    curves = []
    for name in sorted(record.values, key=lambda name: (name not in _CURVES, name)):
        steps = dict(sorted(record.values[name].items()))
        if name in _HIDDEN or name.startswith("lr-") or len(set(steps.values())) < 2:
            continue
        title, meaning, log = _CURVES.get(name, (name, "", False))
        log = log and min(steps.values()) > 0
        curves.append(run_page.Curve(title, meaning, list(steps), list(steps.values()), log))
    return curves
