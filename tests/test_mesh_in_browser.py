"""An exported glb as three.js shows it, in headless Chromium: upright, its front to the viewer, in its own colours."""

from __future__ import annotations

import contextlib
import functools
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from browsing import Unavailable
from pullback.host.scene.background import SolidColorBackground
from pullback.host.scene.exporter import MeshExporter
from pullback.host.scene.material import NoMaterial
from pullback.host.scene.renderer import NeRFVolumeRenderer
from pullback.host.scene.volume_grid import VolumeGrid
from pullback.host.training.saving import SaverMixin
from pullback.views.cameras import camera_rays, orbit
from three_viewer import open_viewer

SIZE, DISTANCE, FOVY = 160, 2.4, 40
GREY = 0.5
VIEWS = {"front": (0.0, 0.0), "side": (0.0, 90.0), "top": (90.0, 0.0), "above": (30.0, 40.0), "back": (10.0, 200.0)}


class Scene:
    """A box with a fuzzy shell, its front another colour than its back, and a ball on it, as a run would leave it."""

    def __init__(self) -> None:
        n = 64
        self.geometry = VolumeGrid(
            {
                "radius": 0.75, "grid_size": [n] * 3, "density_bias": 0.0, "density_activation": "relu",
                "isosurface_threshold": "auto", "isosurface_resolution": 80,
            }
        )  # fmt: skip
        self.material = NoMaterial({"color_activation": "none"})
        axis = 0.75 * ((torch.arange(n) + 0.5) / n * 2 - 1)
        z, y, x = torch.meshgrid(axis, axis, axis, indexing="ij")
        inside = torch.stack([0.5 - x.abs(), 0.4 - y.abs(), 0.3 - (z + 0.15).abs()]).amin(0)
        ball = 0.3 - (x**2 + y**2 + (z - 0.35) ** 2).sqrt()
        step = [torch.sigmoid(v / 0.03) for v in (x - 0.1, z - 0.2)]
        rgb = torch.stack([0.2 + 0.7 * step[0], 0.45 + 0.8 * y, 0.15 + 0.3 * step[1]])
        with torch.no_grad():
            self.geometry.grid[0, 0] = 60 * (torch.maximum(inside, ball) / 0.04).clamp(-1, 1)
            self.geometry.grid[0, 1:] = rgb.clamp(0, 1)
        background = SolidColorBackground({"color": [GREY] * 3})
        options = {"radius": 0.75, "num_samples_per_ray": 128, "grid_prune": False, "backend": "torch"}
        self.renderer = NeRFVolumeRenderer(
            options, geometry=self.geometry, material=self.material, background=background
        ).eval()

    @functools.cache  # noqa: B019
    def render(self, view: tuple[float, float]) -> tuple[np.ndarray, np.ndarray]:
        """Colours [H, W, 3] and opacity [H, W] of a view."""
        pose = orbit(torch.tensor([view[0]]), torch.tensor([view[1]]), DISTANCE)
        rays_o, rays_d = camera_rays(pose, math.radians(FOVY), SIZE, SIZE)
        with torch.no_grad():
            out = self.renderer(rays_o, rays_d, torch.zeros(1, 3))
        return out["comp_rgb"][0].numpy(), out["opacity"][0, ..., 0].numpy()

    def export(self, folder: Path, save_uv: bool) -> Path:
        cfg = {"fmt": "glb", "save_name": f"uv-{save_uv}", "save_uv": save_uv, "texture_size": 512}
        cfg["faces"] = 2000 if save_uv else 10000
        scene = {"geometry": self.geometry, "material": self.material, "background": None}
        (output,) = MeshExporter(cfg, **scene)()
        saver = SaverMixin()
        saver.set_save_dir(str(folder))
        return Path(saver.save_mesh(output.save_name, **output.params))


@pytest.fixture(scope="module")
def scene() -> Scene:
    return Scene()


@pytest.fixture(scope="module")
def show() -> Iterator[Callable[[Path, str], list[np.ndarray]]]:
    """show(file, lit) -> what the browser draws of VIEWS, [H, W, 3] in [0, 1]."""
    with contextlib.ExitStack() as stack:
        try:
            viewer = stack.enter_context(open_viewer())
        except Unavailable as e:
            pytest.skip(str(e))
        yield lambda file, lit: viewer.draw(file, [*VIEWS.values()], lit, SIZE, DISTANCE, FOVY, GREY)


@pytest.mark.parametrize("save_uv", [False, True], ids=["vertices", "texture"])
def test_unlit_views_are_those_of_the_nerf(scene: Scene, show: Any, save_uv: bool, tmp_path: Path) -> None:
    file = scene.export(tmp_path, save_uv)
    for (name, view), picture in zip(VIEWS.items(), show(file, "none"), strict=True):
        render, opacity = scene.render(view)
        object_, drawn = opacity > 0.5, np.abs(picture - GREY).max(-1) > 2 / 255
        assert 0.05 < object_.mean() < 0.5
        psnr = -10 * np.log10(((picture - render)[object_] ** 2).mean())
        assert psnr >= 25, (name, psnr)
        assert (object_ & drawn).sum() / (object_ | drawn).sum() > 0.93, name
        difference = 255 * np.abs(picture - render)[object_ & drawn & (opacity > 0.99)]
        assert np.median(difference) <= 3, (name, np.median(difference))


def test_a_lamp_at_the_camera_shows_the_colours_and_no_black(scene: Scene, show: Any, tmp_path: Path) -> None:
    """A diffuse surface under a lamp of strength π shows its colour times the cosine; a metal would be black."""
    file = scene.export(tmp_path, save_uv=False)
    for (name, view), picture in zip(VIEWS.items(), show(file, "lamps"), strict=True):
        render, opacity = scene.render(view)
        solid = opacity > 0.99
        ratio = picture[solid].mean() / render[solid].mean()
        assert 0.7 < ratio < 1.05, (name, ratio)  # the surface of a dielectric reflects 4 %
