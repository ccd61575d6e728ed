"""`stable-diffusion-sdi-guidance`: score distillation via inversion."""

from __future__ import annotations

import copy
import random
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ...baselines import sdi
from ...baselines.distil import Step
from ...denoiser import Sigma, VPSchedule
from ...errors import check_at_least
from ..base import BaseObject
from ..registry import register
from .guidance import Distillation
from .options import Options

FIRST = 1  # time of the first of the evenly spaced levels: steps_offset of Stable Diffusion's schedulers


@register("stable-diffusion-sdi-guidance")
class StableDiffusionSDIGuidance(Distillation, BaseObject):
    """loss_sdi of SDI (Lukoianov et al. 2024): DDIM inversion of the picture's latents gives the noise.

    A batch of any size has one t and one end of the inversion. As in threestudio, the loss is the mean over latents,
    not their sum, divided by the batch size.
    """

    @dataclass
    class Config(Options):
        weighting_strategy: str = "sds"
        var_red: bool = True
        trainer_max_steps: int = 10000
        max_items_eval: int = 4
        n_ddim_steps: int = 50
        enable_sdi: bool = True  # without, noise is drawn
        inversion_guidance_scale: float = -7.5
        inversion_n_steps: int = 10
        inversion_eta: float = 0.3
        t_anneal: bool = True  # t falls with the steps done, from max_step_percent to min_step_percent
        # where threestudio differs from the paper. inversion_remap: the noise of the inversion, which ends at t + δ,
        # makes the input at t, as in the paper; without, the end of the inversion itself is the input, as if it were
        # at t. inversion_below_zero: the first step of the inversion calls the model at a time below 0, not at 0
        inversion_remap: bool = False
        inversion_below_zero: bool = True

        def unused(self) -> dict[str, str]:
            """The keys of threestudio that have no effect here, each with the reason."""
            return {
                **super().unused(),
                "weighting_strategy": "the method has no weight",
                "var_red": "it belongs to another method",
                "max_items_eval": "pictures of the guidance's own are not drawn",
                "n_ddim_steps": "pictures of the guidance's own are not drawn",
            }

        def __post_init__(self) -> None:
            super().__post_init__()
            check_at_least(self, 1, "inversion_n_steps")
            check_at_least(self, 0, "inversion_eta")

    cfg: Config
    loss_name = "loss_sdi"

    def configure(self) -> None:
        """Loads the model, and gives the inversion's copy of it a first time below 0 where that is asked for."""
        super().configure()
        self._inverting = self.model
        if self.cfg.inversion_below_zero:
            inverting: Any = copy.copy(self.model)
            inverting.schedule = _EarlyStart(self.model.schedule, FIRST - self._spacing)
            self._inverting = inverting

    @property
    def _spacing(self) -> int:
        return len(self.model.schedule.sigmas) // self.cfg.inversion_n_steps

    def annealing(self) -> float | None:
        """The share of the steps, with `t_anneal`."""
        return self._step / self.cfg.trainer_max_steps if self.cfg.t_anneal else None

    def second(self, prompt_utils: Any) -> Any:
        """The denoiser of the inversion, with its own guidance scale."""
        return self.denoiser(prompt_utils, self.cfg.inversion_guidance_scale, self._inverting)

    def gradient(self, step: Step) -> Tensor:
        """SDI's gradient [B,c,h,w] at a drawn t."""
        levels = self.model.schedule.sigmas
        low, high = self.times()
        t = int(torch.randint(low, high + 1, ()))
        path = [levels[i].item() for i in self.path(t, random.random())] if self.cfg.enable_sdi else []
        return sdi.gradient(
            step, path, levels[t].item(), "x0", self.cfg.inversion_eta, self.cfg.inversion_remap, preserving=True
        )

    def path(self, t: int, draw: float) -> list[int]:
        """The times of an inversion to t: 0, evenly spaced ones below t, and t + δ, where `draw` in [0, 1) sets δ."""
        count = len(self.model.schedule.sigmas)
        end = min(t + int(draw * count // self.cfg.inversion_n_steps), count - 1)
        return [0, *range(FIRST, t, self._spacing)[: self.cfg.inversion_n_steps], end]

    def loss(self, latents: Tensor, pull: Tensor) -> Tensor:
        """½ Σ g² / B, divided by the number of values."""
        return super().loss(latents, pull) / latents.numel()


class _EarlyStart(VPSchedule):
    """A schedule whose least level has another time."""

    def __init__(self, schedule: Any, time: float) -> None:
        self.__dict__.update(vars(schedule))
        self._time = time

    def t_of_sigma(self, sigma: Any) -> Sigma:  # type: ignore[override]
        return self._time if sigma == self.sigma_min else super().t_of_sigma(sigma)
