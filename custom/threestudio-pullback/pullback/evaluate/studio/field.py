"""The studio without a framework: a voxel field before its backdrop, its cameras, the model's words.

The same world as `configs/pullback-nerf-tiny.yaml`; hundreds of NeRFs cost hours, not days.
"""

from __future__ import annotations

import functools
import re
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ... import models, noise
from ...baselines import sds
from ...constraints import Repaint
from ...diffreps import VoxelField
from ...errors import UserError
from ...fitting.solvers import FirstOrder
from ...sampling.loops import sample
from ...sampling.schedule import karras_sigmas
from ...sampling.state import Result
from .. import options
from . import around
from . import world as worlds
from .captions import DIRECTIONS

BOX = 0.75  # half the width of the field's cube: every solid lies within
SIZE = 64  # pixels a side


class StudioField(VoxelField):
    """A voxel field in [−BOX, BOX]³ before the studio's backdrop, at 64×64 px; nearly empty at its start.

    Args:
        resolution: As for VoxelField.
        samples: As for VoxelField.
        rays: Rays of one step of a fit, all views together.
        plain: Before a plain grey backdrop, which does not tell from where a picture is taken.
    """

    def __init__(self, resolution: int = 32, samples: int = 24, rays: int = 2048, plain: bool = False):
        super().__init__(resolution, SIZE, SIZE, samples)
        self.rays, self.plain = rays, plain
        with torch.no_grad():
            self.density.fill_(-4.0)

    def render(self, views: Tensor) -> Tensor:
        """[V,3,64,64] in about [−1, 1] for poses [V,4,4]."""
        return self._colours(*self._rays(views)).movedim(-1, 1)

    def residual(self, views: Tensor, target: Tensor, generator: torch.Generator) -> Tensor:
        """Render minus target [V,n,3] on n random pixels of each view, n = rays / V."""
        count = len(views)
        pick = torch.randint(SIZE * SIZE, (count, max(1, self.rays // count), 1), generator=generator).expand(-1, -1, 3)
        origins, directions, colours = (
            x.reshape(count, -1, 3).gather(1, pick) for x in (*self._rays(views), target.movedim(1, -1))
        )
        return self._colours(origins, directions) - colours

    def _rays(self, views: Tensor) -> tuple[Tensor, Tensor]:
        origins, directions = worlds.camera_rays(views.to(self.density), SIZE)
        return origins / BOX, directions

    def _colours(self, origins: Tensor, directions: Tensor) -> Tensor:
        """Colours [...,3] along rays [...,3]."""
        points, pieces = self._along(origins, directions)
        colour, through = self._emitted(self._lookup(points, self.grid), pieces)
        behind = around.GREY if self.plain else worlds.backdrop(directions)
        return colour + through * (behind * 2 - 1)

    def _lookup(self, points: Tensor, grid: Tensor) -> Tensor:
        # grid_sample is six times as fast as gathering corners; it has no forward-mode derivative, which is not needed
        volume = grid.T.view(1, 4, *[self.resolution] * 3)
        places = points.flip(-1).view(1, 1, 1, -1, 3)  # it takes the fastest axis first
        return F.grid_sample(volume, places, align_corners=True).view(4, -1).T.view(*points.shape[:-1], 4)


def cameras(generator: torch.Generator, count: int = 8) -> Tensor:
    """Poses [count,4,4] all round, one in each of `count` equal sectors; elevations are uniform from 0° to 60°."""
    elevation, part = torch.rand(2, count, generator=generator)
    return worlds.look_at(elevation * 60, (torch.arange(count) + part) / count * 360)


def group_cameras(generator: torch.Generator, count: int = 8) -> Tensor:
    """Poses [count,4,4] of groups of four, 90° apart, that start in equal parts of 90°; elevations as for `cameras`."""
    groups = count // 4
    elevation, part = torch.rand(2, groups, generator=generator)
    return around.group_of(elevation * 60, (torch.arange(groups) + part) / groups * 90)


class Widening:
    """Views of a sampler that begin in one place and spread with each visit, until they are those of `cameras`.

    So one view settles what a prompt leaves open, as in a picture, before the others join it.

    Args:
        count: Cameras of a visit.
        visits: The visit from which on the cameras are all round.
    """

    def __init__(self, count: int, visits: int):
        self.count, self.visits, self.visit = count, visits, 0
        self.elevation = self.azimuth = torch.zeros(())

    def __call__(self, generator: torch.Generator) -> Tensor:
        """Poses [count,4,4]."""
        if self.visit >= self.visits:
            return cameras(generator, self.count)
        if self.visit == 0:
            self.elevation, self.azimuth = torch.rand(2, generator=generator) * torch.tensor([60.0, 360.0])
        width = self.visit / self.visits
        self.visit += 1
        elevation, part = torch.rand(2, self.count, generator=generator)
        elevation = (1 - width) * self.elevation + width * elevation * 60
        share = (torch.arange(self.count) + part) / self.count - 0.5
        return worlds.look_at(elevation, self.azimuth + width * share * 360)


def view_words(views: Tensor) -> list[str]:
    """The word for each of the poses [V,4,4], by threestudio's thresholds: front, side, back or overhead."""
    x, y, z = views[:, :3, 3].unbind(-1)
    elevation, azimuth = torch.atan2(z, torch.hypot(x, y)).rad2deg(), torch.atan2(y, x).rad2deg()
    return [worlds.direction_name(e, a) for e, a in zip(elevation.tolist(), azimuth.tolist(), strict=True)]


def denoiser(
    model: models.LatentModel, prompt: str, guidance: float, fit_space: str = "image"
) -> models.GuidedDenoiser:
    """The model's denoiser for poses [V,4,4].

    The prompt of each view is "PROMPT, … view", or PROMPT alone for a model of several views, which knows the cameras.
    """
    if models.group_of(model) > 1:
        return models.GuidedDenoiser(model, models.fixed_text(model, prompt), guidance, fit_space)
    worded = model.encode_prompt([f"{prompt}, {name} view" for name in DIRECTIONS])
    uncond = model.encode_prompt([""])

    def text(views: Tensor) -> tuple[Tensor, Tensor]:
        return worded[[DIRECTIONS.index(word) for word in view_words(views)]], uncond

    return models.GuidedDenoiser(model, text, guidance, fit_space)


@dataclass(frozen=True)
class Method:
    """One way to make a NeRF of a prompt. SDS uses guidance, steps, lr, views and widen.

    Attributes:
        name: "pullback" or "sds".
        guidance: Guidance scale, in diffusers' convention.
        noise: A coupling, or the weights of a Smooth one with + between them; slot for a model of several views.
        cycles: Visits of a level.
        levels: How many noise levels there are.
        steps: Adam's steps of a visit; for SDS those of the run, at random levels of the model.
        lr: Adam's learning rate.
        views: Cameras of a visit.
        widen: Share of the visits until the cameras are all round, see Widening.
        plain: See StudioField.
    """

    name: str = "pullback"
    guidance: float = 1.0
    noise: str = "shared"
    cycles: int = 2
    levels: int = 20
    steps: int = 15
    lr: float = 0.1
    views: int = 8
    widen: float = 0.0
    plain: bool = False

    @property
    def label(self) -> str:
        """The text that `parse` reads, with every option that has not its default."""
        usual = options.of(Method)
        return options.label(self.name, {k: v for k, v in vars(self).items() if k != "name" and v != usual[k]})

    def coupling(self) -> str | noise.Coupling:
        """The coupling that `noise` means, or its name."""
        if re.fullmatch(r"[\d.]+(\+[\d.]+)+", self.noise):
            return noise.Smooth(tuple(map(float, self.noise.split("+"))))
        return self.noise


def parse(text: str) -> Method:
    """Reads "NAME key=value …"; raises UserError for an unknown name, key or value."""
    name, *words = text.split() or [""]
    if name not in ("pullback", "sds"):
        raise UserError(f"--method {name!r} is not known; use one of pullback, sds")
    defaults = {key: value for key, value in options.of(Method).items() if key != "name"}
    method = Method(name, **options.read(words, defaults, f"--method {text!r}"))
    noise.find(method.coupling())
    return method


def make(
    model: models.LatentModel, prompt: str, method: Method, generator: torch.Generator
) -> tuple[StudioField, Result]:
    """Makes a NeRF of a prompt; returns it and the sampler's result."""
    fit_space = "image" if method.name == "pullback" else "latent"  # SDS goes back through the encoder
    field, denoise = StudioField(plain=method.plain), denoiser(model, prompt, method.guidance, fit_space)
    if models.group_of(model) > 1:
        views = functools.partial(group_cameras, count=method.views)
    else:
        views = Widening(method.views, round(method.widen * method.levels * method.cycles))
    if method.name == "pullback":
        sigmas = karras_sigmas(method.levels, 0.1, model.sigma_max, rho=3.0)
        constraint, solver = Repaint(method.cycles), FirstOrder(method.lr, method.steps)
        coupling = method.coupling()
        return field, sample(field, views, denoise, sigmas, coupling, constraint, solver, generator=generator)
    times = model.schedule.sigmas.flip(0)
    edge = len(times) // 50  # 2 % to 98 % of the model's time, as in DreamFusion
    sigmas = torch.cat([times[edge:-edge], times.new_zeros(1)])
    return field, sds.sample(field, views, denoise, sigmas, steps=method.steps, lr=method.lr, generator=generator)
