"""The panorama world: bands of colour with shapes round the horizon, known in every direction by formula."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from ...baselines import multidiffusion as _multidiffusion
from ...diffreps.panorama import EquirectangularGrid, Panorama, SphereImage
from ...errors import UserError
from ...views import crops
from .outcome import Outcome
from .sceneworld import BLEND, SceneWorld

SHAPES = ("up", "down", "left", "right")
SKIES = {"white": (0.6, 0.6, 0.6), "red": (0.6, -0.6, -0.6), "green": (-0.6, 0.6, -0.6), "blue": (-0.6, -0.6, 0.6)}
"""In [−1, 1]; each as far from the others."""
NUMBER = 6  # shapes round the horizon, all of one kind
RADIUS = 22.0  # degrees
BAND = 28.0  # degrees above and below the horizon
SOFTNESS = 2.0  # degrees: about how wide an edge is
FIRST = 24.0  # azimuth of a shape's centre, so that the edge of one lies near ±180°
SIZE = 16  # pixels of a crop
FOVY = 120.0  # degrees
RESOLUTION = 48  # rows of a grid


def labels() -> list[dict[str, Any]]:
    """16 labels: 4 ways that the arrowheads point × 4 colours of the sky, shape major."""
    return [{"shape": shape, "sky": sky} for shape in SHAPES for sky in SKIES]


def colours(labels: list[dict[str, Any]], directions: Tensor) -> Tensor:
    """Colours [M,...,3] in [−1, 1] of these scenes in unit directions [...,3].

    Sky, ground and a dark band between; in it six arrowheads that point one way, their hues going round with azimuth.
    """
    x, y, z = directions.unbind(-1)
    azimuth, elevation = torch.atan2(y, x), torch.rad2deg(torch.atan2(z, torch.hypot(x, y)))
    apart = 360 / NUMBER
    across = torch.remainder(torch.rad2deg(azimuth) - FIRST + apart / 2, apart) - apart / 2
    turn = azimuth[..., None] - directions.new_tensor([0.0, 1.0, 2.0]) * (2 * math.pi / 3)
    brighter = 0.95 + 0.35 * turn.cos()
    up, down = _share(BAND - elevation)[..., None], _share(BAND + elevation)[..., None]
    shapes = {s: _share(_distance(s, across, elevation))[..., None] * brighter - 0.6 for s in SHAPES}
    bands = {shape: (1 - up - down) * middle for shape, middle in shapes.items()}
    names = list(SKIES)
    skies = {
        sky: up * directions.new_tensor(SKIES[sky]) + down * directions.new_tensor(SKIES[names[(k + 1) % 4]])
        for k, sky in enumerate(names)
    }
    return torch.stack([bands[label["shape"]] + skies[label["sky"]] for label in labels])


def _share(distance: Tensor) -> Tensor:
    """1 well inside, where distance [...] in degrees is negative, and 0 outside."""
    return torch.sigmoid(-2 * distance / SOFTNESS)


def _distance(shape: str, across: Tensor, up: Tensor) -> Tensor:
    """How far outside an arrowhead in degrees, about, negative inside; the middle of its box is at 0, 0."""
    # azimuth grows to the left
    along, beside = {"up": (up, across), "down": (-up, across), "left": (across, up), "right": (-across, up)}[shape]
    return torch.maximum(-along - RADIUS, (2 * beside.abs() + along - RADIUS) / math.sqrt(5))


class Exact(SphereImage):
    """A scene itself, without parameters."""

    def __init__(self, label: dict[str, Any]):
        super().__init__(SIZE, SIZE)
        self.label = label

    def colours(self, directions: Tensor) -> Tensor:
        """Colours [...,3] in [−1, 1] in unit directions [...,3]."""
        return colours([self.label], directions)[0]


@torch.no_grad()
def seam(field: Any, height: int = 1024, beside: int = 2) -> float:
    """How visible the seam at ±180° is: 1 where that is a place like any other.

    The root mean square difference of the two columns at the seam, over that of the neighbouring pairs of columns.

    Args:
        field: As SphereImage.
        height: Rows of the equirectangular picture; its columns are finer than any edge.
        beside: How many pairs of columns on each side are compared.
    """
    towards = crops.equirectangular(height, torch.zeros(()))
    around = torch.cat([towards[:, -beside - 1 :], towards[:, : beside + 1]], 1)
    square = field.colours(around).diff(dim=1).square().mean((0, 2))
    across, others = square[beside], torch.cat([square[:beside], square[beside + 1 :]])
    return float((across / others.mean()).sqrt())


class PanoramaWorld(SceneWorld):
    """16 panoramas of equal weight, seen through crops 120° wide and 16×16 px; the field is a SIREN or a pixel grid.

    The crops are wide, since a panorama hangs together by their overlaps alone: with crops 90° wide, a quarter of the
    way round, all 4 samples of a pilot with 4 cycles were of several scenes. Each crop tells the sky and, where it
    shows the horizon, the shape. One that looks straight up or down hardly tells the shape: all scenes of a sky are
    alike there.

    No sky and no shape is nearer to the mean of all scenes. Ten cycles of RePaint renew the noise at nearly every
    level, and noise that does not last seeks the scene nearest to the mean: with skies at unequal distances from it,
    two of the four took all of 8 samples. So this world tells whether a sampler makes up its mind, and whether it
    always ends in one scene, but not whether it keeps unequal weights.
    """

    def __init__(self, name: str, grid: bool = False):
        super().__init__(name, labels())
        self.grid = grid
        fit = {"solver": "gauss-newton", "iterations": 1, "cg": 4} if grid else {"lr": 0.002, "steps": 8}
        self.defaults = {  # without tries, pilots had 1 blend in 5 samples; limit: what counts as a blend
            "levels": 24, "sigma_max": 80.0, "noise": "spherical", "constraint": "repaint", "cycles": 10,
            "tries": 4, "limit": BLEND, **fit,
        }  # fmt: skip
        self.views = crops.RandomCrops(8, (FOVY, FOVY), (-60.0, 60.0), (0.625, 0.625))  # type: ignore[assignment]
        self.cameras = crops.cover(FOVY, 0.75)  # type: ignore[assignment]
        tilt = torch.tensor([0.0, 30.0, -30.0, 15.0, -15.0, 45.0, -45.0, 0.0, 90.0, -90.0])
        self.held_out = crops.look(tilt, 7 + 360 / 8 * torch.arange(10), 75.0)  # type: ignore[assignment]

    def prepare(self) -> None:
        """Nothing to make beforehand."""

    def diffrep(self) -> SphereImage:  # type: ignore[override]
        """A panorama in its start state; the SIREN's own weights are drawn with one fixed seed."""
        if self.grid:
            return EquirectangularGrid(3, SIZE, SIZE, RESOLUTION)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            return Panorama(3, SIZE, SIZE, hidden=64, layers=3, omega=12.0)

    def images(self, views: dict[str, Tensor]) -> Tensor:  # type: ignore[override]
        """Every scene's exact image [M,V,3,16,16] in any crops."""
        return colours(self.labels, crops.directions(views, SIZE, SIZE)).movedim(-1, 2)

    @torch.no_grad()
    def judge(self, diffrep: Any) -> dict[str, Any]:
        """As in other worlds of scenes, and seam: see `seam`; seam exact: that of the nearest scene."""
        row = super().judge(diffrep)
        return row | {"seam": seam(diffrep), "seam exact": seam(Exact(self.labels[row["scene"]]))}

    def perfect(self, generator: torch.Generator) -> nn.Module:  # type: ignore[override]
        """One of the scenes itself."""
        return Exact(self.labels[int(torch.multinomial(self.weights, 1, generator=generator))])

    @torch.no_grad()
    def picture(self, diffrep: Any) -> Tensor:
        """The whole panorama [3,48,96]."""
        return diffrep.equirectangular(48)

    def measures(self, rows: list[dict[str, Any]]) -> dict[str, Any]:
        """As in other worlds of scenes, and the seams."""
        own, exact = ([row[name] for row in rows] for name in ("seam", "seam exact"))
        seams = {"seam": sum(own) / len(rows), "seam max": max(own), "seam exact": sum(exact) / len(rows)}
        return super().measures(rows) | seams


def panorama() -> PanoramaWorld:
    """16 panoramas, 4 ways that arrowheads point × 4 skies, equal weights; the field is a SIREN on the sphere."""
    return PanoramaWorld("panorama")


def panorama_grid() -> PanoramaWorld:
    """The same, sampled as a grid of pixels."""
    return PanoramaWorld("panorama-grid", grid=True)


def multidiffusion(
    world: Any, seed: int, *, levels: int = 34, sigma_max: float = 80.0, crops: str = "fixed", noise: str = "spherical"
) -> Outcome:
    """Averages the denoised crops at every level, on a grid of pixels; for the worlds of panoramas alone.

    Args:
        world: A world of panoramas.
        seed: The seed of the sample.
        levels: How many noise levels there are.
        sigma_max: The first of them.
        crops: "fixed": at every level the same 56 crops, which cover the sphere and overlap by three quarters of their
            angle; "fresh": the world's random 8.
        noise: A coupling.

    Raises:
        UserError: The world is another, or the crops are.
    """
    if not isinstance(world, PanoramaWorld) or crops not in ("fixed", "fresh"):
        raise UserError("--method multidiffusion: crops=fixed or fresh, in the worlds panorama and panorama-grid")
    grid = EquirectangularGrid(3, SIZE, SIZE, RESOLUTION)
    result = _multidiffusion.sample(
        grid, world.cameras if crops == "fixed" else world.views, world.denoise, world.sigmas(levels, sigma_max),
        noise=noise, generator=torch.Generator().manual_seed(seed),
    )  # fmt: skip
    return Outcome.of(grid, result)
