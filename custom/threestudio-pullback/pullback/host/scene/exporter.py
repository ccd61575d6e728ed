"""`mesh-exporter`: the geometry's surface with the material's colours at its vertices."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch

from ...errors import ConfigError
from ..base import BaseObject
from ..registry import register


@dataclass
class ExporterOutput:
    """One file to write: its name, which `save_<save_type>` writes it, and what that takes."""

    save_name: str
    save_type: str
    params: dict[str, Any]


class Exporter(BaseObject):
    """A part that says which files an export writes."""

    @dataclass
    class Config(BaseObject.Config):
        save_video: bool = False

    def configure(self, geometry: Any, material: Any, background: Any) -> None:
        """Takes the scene to export."""
        self.geometry, self.material, self.background = geometry, material, background

    def __call__(self) -> list[ExporterOutput]:
        """Override: the files to write."""
        raise NotImplementedError


@register("dummy-exporter")
class DummyExporter(Exporter):
    """Writes nothing."""

    def __call__(self) -> list[ExporterOutput]:
        """No file."""
        return []


@register("mesh-exporter")
class MeshExporter(Exporter):
    """Writes `save_name`.obj (lines "v x y z r g b") or `save_name`.glb.

    The keys from save_normal on have no effect: they belong to textured meshes, which need a rasteriser.
    """

    @dataclass
    class Config(Exporter.Config):
        fmt: str = "obj"  # "obj" or "glb"
        save_name: str = "model"
        save_texture: bool = True  # colours
        save_normal: bool = False
        save_uv: bool = True
        texture_size: int = 1024
        texture_format: str = "jpg"
        xatlas_chart_options: dict = field(default_factory=dict)
        xatlas_pack_options: dict = field(default_factory=dict)
        context_type: str = "gl"

        def __post_init__(self) -> None:
            if self.fmt not in ("obj", "glb"):
                raise ConfigError("fmt", f"must be 'obj' or 'glb' (colours at the vertices), not '{self.fmt}'")
            if not self.save_name or "/" in self.save_name:
                raise ConfigError("save_name", f"must be a file's name without a folder, not '{self.save_name}'")

    @torch.no_grad()
    def __call__(self) -> list[ExporterOutput]:
        """The one file; raises UserError where the geometry has no surface at its threshold."""
        mesh = self.geometry.isosurface()
        params = {"v_pos": mesh.v_pos, "t_pos_idx": mesh.t_pos_idx, "v_rgb": None}
        if self.cfg.save_texture:
            params["v_rgb"] = self.material.export(**self.geometry.export(mesh.v_pos)).get("albedo")
        return [ExporterOutput(f"{self.cfg.save_name}.{self.cfg.fmt}", "mesh", params)]
