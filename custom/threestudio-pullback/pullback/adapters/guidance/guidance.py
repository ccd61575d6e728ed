"""`pullback-guidance`: the sampler's options as one config block, and the objects that they describe."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import pullback
import torch
from pullback import models
from pullback.constraints import Constraint
from pullback.denoiser import Denoiser
from pullback.errors import UserError
from pullback.fitting import DiffRep
from pullback.noise import Coupling, Slot
from pullback.sampling.schedule import highest_sigma

from .._framework import BaseObject, C, calling_system, info, register, warn
from .drop_in import DropIn
from .foreign import split
from .options import Options, make_constraint, make_noise, make_policy, make_restart


@register("pullback-guidance")
class PullbackGuidance(DropIn, BaseObject):
    """Loads the diffusion model and builds schedule, noise, constraint and sampler for a system.

    For `pullback-system` it is that; in other systems it is a drop-in for their guidance, see `DropIn`.
    `guidance_scale` s is diffusers': x̂0 = uncond + s (cond − uncond); 1 means no guidance. Keys that only another
    guidance knows are ignored with a line in the log, so that its block can stay as it is, see `foreign`.
    """

    Config = Options

    cfg: Options

    def __init__(self, cfg: Any = None, *args: Any, **kwargs: Any) -> None:
        cfg, foreign = split(cfg, self.Config)
        self._names_noise = bool(cfg) and cfg.get("noise") is not None  # beside the preset's
        if foreign:
            info(f"pullback-guidance has no use for {', '.join(foreign)} of system.guidance")
        super().__init__(cfg, *args, **kwargs)

    def configure(self) -> None:
        """Loads the model."""
        key = "pretrained_model_name_or_path"
        self.model = models.load_configured(self.cfg, key, f"system.guidance.{key}", self.device)
        for sentence in getattr(self.model, "cautions", ()):
            warn(sentence)

    def share(self) -> None:
        """Shares the model's calls out over the processes of a run on several devices."""
        self.model = models.Sharded(self.model)

    def sigmas(self) -> torch.Tensor:
        """The noise levels, [levels + 1], decreasing to 0."""
        low, high = self.model.sigma_min, self.model.sigma_max
        bottom = self._sigma("sigma_min", "min_step_percent", low)
        top = self._sigma("sigma_max", "max_step_percent", highest_sigma(bottom, high, self.cfg.rho))
        for name, value in (("sigma_max", top), ("sigma_min", bottom)):
            if not low * (1 - 1e-6) <= value <= high * (1 + 1e-6):
                raise UserError(
                    f"`system.guidance.{name}` is {value:g}, outside the model's range {low:.4g} to {high:.4g}; "
                    "choose a value within it, or null for the model's own"
                )
        if bottom >= top:
            raise UserError(
                f"`system.guidance.sigma_min` ({bottom:g}) must be below `system.guidance.sigma_max` ({top:g}); "
                "swap them"
            )
        return pullback.karras_sigmas(self.cfg.levels, bottom, top, rho=self.cfg.rho)

    def _sigma(self, name: str, percent: str, default: float) -> float:
        sigma, share = getattr(self.cfg, name), getattr(self.cfg, percent)
        if sigma is not None:
            return float(sigma)
        if share is None:
            return default
        times = self.model.schedule.sigmas
        return float(times[min(int(C(share, 0, 0) * len(times)), len(times) - 1)])

    def denoiser(self, prompt_utils: Any) -> models.AnySize:
        """The guided denoiser of a prompt processor's output, with Perp-Neg where its `use_perp_neg` is set.

        Its views are dicts with elevation, azimuth [V] in degrees and camera_distances [V], and c2w [V,4,4] for a model
        of several views.
        """
        prompt_utils = self._words(prompt_utils, _negative_prompt)
        prompt = prompt_utils, self.cfg.view_dependent_prompting
        options = self.cfg.guidance_scale, self.cfg.fit_space, self.cfg.views_per_call
        policy = self.policy()
        if prompt_utils.use_perp_neg and self._group > 1:
            raise UserError(f"`system.prompt_processor.use_perp_neg` {models.NO_PERP_NEG}")
        if prompt_utils.use_perp_neg:
            text = models.perp_neg_text_of(*prompt)
            return models.AnySize(models.PerpNegDenoiser(self.model, text, *options, policy=policy))
        return models.AnySize(models.GuidedDenoiser(self.model, models.text_of(*prompt), *options, policy))

    def policy(self) -> models.GuidancePolicy:
        """The calls that the options guide."""
        return make_policy(self.cfg)

    def constraint(self) -> Constraint:
        """The constraint of the options."""
        return make_constraint(self.cfg)

    def coupling(self) -> Coupling:
        """The noise coupling of the options; slot for a model of several views where they name none."""
        return make_noise(self.cfg) if self._names_noise or self._group == 1 else Slot(self._group)

    @functools.cached_property
    def _words(self) -> models.WordsOf:
        """What a prompt processor's output means to the model."""
        return models.WordsOf(self.model, warn)

    @property
    def _group(self) -> int:
        """Views that the model sees at once."""
        return models.group_of(self.model)

    def sampler(
        self,
        diffrep: DiffRep,
        views: Callable[[torch.Generator], Any],
        denoise: Denoiser,
        optimizer: torch.optim.Optimizer,
        seed: int,
    ) -> pullback.Sampler:
        """The sampler of the options.

        Args:
            diffrep: See pullback.Sampler.
            views: (generator) -> views, for the check.
            denoise: See pullback.Sampler.
            optimizer: Makes the steps of the fits.
            seed: Of the sampler's generator.
        """
        return pullback.Sampler(
            diffrep,
            views,
            denoise,
            self.sigmas(),
            noise=self.coupling(),
            constraint=self.constraint(),
            solver=pullback.FirstOrder(steps=self.cfg.fit_steps, optimizer=optimizer),
            order=self.cfg.order,
            generator=torch.Generator().manual_seed(seed),
            restart=make_restart(self.cfg, self.coupling()),
        )


def _negative_prompt() -> str:
    """The negative prompt of the run, which threestudio's prompt_utils do not hold."""
    system = calling_system()
    return str((system.cfg.prompt_processor if system is not None else {}).get("negative_prompt") or "")
