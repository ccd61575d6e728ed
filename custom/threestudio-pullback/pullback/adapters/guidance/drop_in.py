"""The sampler's noise levels, noise and targets as a loss, for systems that take one step per picture."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from pullback.constraints import Constraint
from pullback.errors import NonFiniteError, UserError, check_finite
from pullback.models import GuidancePolicy
from pullback.noise import Coupling
from pullback.version import describe
from torch import Tensor

from .._framework import C, calling_system, info, warn
from .annealing import Annealing

WEIGHTS: dict[str, Callable[[float], float]] = {
    "fit": lambda sigma: 1.0,
    "uniform": lambda sigma: 1 / sigma,
    "sds": lambda sigma: sigma / (1 + sigma**2),
    "fantasia3d": lambda sigma: sigma / (1 + sigma**2) ** 1.5,
}
"""σ -> weight of the gradient u − x̂0: "fit" is the least squares of a level; the others are threestudio's strategies,
which weigh ε̂ − ε = (u − x̂0)/σ by 1, 1 − ᾱ and √ᾱ (1 − ᾱ), with ᾱ = 1/(1 + σ²)."""


class DropIn:
    """`guidance(rgb, prompt_utils, **batch)` of threestudio's systems, by annealed levels and coupled noise.

    A training step stands for one step of a level's fit: the system renders the views, takes the gradient of
    ½ ‖u − x̂0(u + σε)‖², which is that of the level's least squares up to a factor, and moves θ by its own optimiser.
    σ falls over the run, and ε is the coupling's, kept and refreshed as in the sampler. A loss cannot make every
    level's fit end at its target: with few steps renders lag behind their targets, with many they run ahead of the
    flow, towards the mode. `pullback-system` has neither fault.
    """

    role = "guidance"

    cfg: Any
    model: Any
    sigmas: Callable[[], Tensor]
    denoiser: Callable[[Any], Any]
    constraint: Callable[[], Constraint]
    coupling: Callable[[], Coupling]
    policy: Callable[[], GuidancePolicy]
    _epoch = _step = 0
    _annealing: Annealing | None = None

    def update_step(self, epoch: int, global_step: int, on_load_weights: bool = False) -> None:
        """Keeps the step, which the level depends on."""
        self._epoch, self._step = epoch, global_step

    def __call__(
        self,
        rgb: Tensor,
        prompt_utils: Any,
        elevation: Tensor,
        azimuth: Tensor,
        camera_distances: Tensor,
        rgb_as_latents: bool = False,
        test_info: bool = False,
        **batch: Any,
    ) -> dict[str, Any]:
        """The loss of these pictures.

        Args:
            rgb: [B,H,W,3] in [0,1]; with rgb_as_latents [B,h,w,c], latents of the model.
            prompt_utils: The prompt processor's output.
            elevation: [B] in degrees.
            azimuth: [B] in degrees.
            camera_distances: [B].
            rgb_as_latents: Whether `rgb` are latents.
            test_info: Whether to return pictures in place of the loss, for sdi-system's validation.
            **batch: The other keys of the camera batch.

        Returns:
            `loss_pullback`, a scalar ½ weight Σ (u − x̂0)² / B in the space of `fit_space`; `residual`, its root mean
            square; `sigma` and `level`. With test_info: `noisy_img`, `noise_img` and `target` [H,W,3] in [0,1].

        Raises:
            NonFiniteError: A NaN or infinity; the message names step, σ and view.
        """
        if self._annealing is None:
            self._annealing = self._start(calling_system())
        level = self._annealing.level(self._step)
        sigma = self._annealing.sigmas[level]
        views = {**batch, "elevation": elevation, "azimuth": azimuth, "camera_distances": camera_distances}
        denoise = self.denoiser(prompt_utils)
        in_latents = rgb_as_latents or denoise.fit_space == "latent"
        try:
            rgb = check_finite(rgb.movedim(-1, 1), "the render")
            with torch.set_grad_enabled(torch.is_grad_enabled() and in_latents):
                latents = denoise.fit_latents(rgb) if rgb_as_latents else denoise.encode(rgb * 2 - 1)
            with torch.no_grad():
                noise = self._annealing.noise(self._step, latents, views)
                noisy = latents + sigma * noise
                x0 = check_finite(denoise(noisy, sigma, views), "the denoiser's answer")
                aim = self._annealing.target(self._step, latents, noise, x0)
                target = aim if in_latents else check_finite(denoise.decode(aim), "the decoded target")
        except NonFiniteError as e:
            raise NonFiniteError(f"stopped at step {self._step}, level {level}, sigma {sigma:.4g}: {e}") from e
        if test_info:
            state = noisy / math.sqrt(1 + sigma**2)  # the model's own state, as large as clean latents
            pictures = {"noisy_img": denoise.decode(state), "noise_img": denoise.decode(state - latents)}
            pictures["target"] = denoise.decode(x0)
            return {name: (p[0].movedim(0, -1) / 2 + 0.5).clamp(0, 1) for name, p in pictures.items()}
        loss, residual = self._loss(latents if in_latents else rgb * 2 - 1, target, sigma)
        return {"loss_pullback": loss, "residual": residual, "sigma": sigma, "level": float(level)}

    def _loss(self, clean: Tensor, target: Tensor, sigma: float) -> tuple[Tensor, float]:
        difference = clean.detach() - target
        gradient = WEIGHTS[self.cfg.weighting_strategy](sigma) * difference
        if self.cfg.grad_clip is not None:
            limit = C(self.cfg.grad_clip, self._epoch, self._step)
            gradient = gradient.clamp(-limit, limit)
        # the value is that of the least squares, the derivative the gradient above, clipped or not
        loss = 0.5 * (gradient * difference).sum() + (gradient * (clean - clean.detach())).sum()
        return loss / len(clean), float(difference.square().mean().sqrt())

    def _start(self, system: Any) -> Annealing:
        """Levels and noise for the training of the calling system."""
        constraint = self.constraint()
        self._check_fits_a_loss(constraint)
        visits = self.cfg.levels * constraint.cycles
        total = self.cfg.trainer_max_steps
        if system is not None:
            if "lambda_pullback" not in system.cfg.loss:
                raise UserError("`system.loss.lambda_pullback` is missing; add it, for example with the value 1")
            if total is None and system.trainer.max_steps > 0:
                total = system.trainer.max_steps
        total = visits * self.cfg.fit_steps if total is None else int(total)
        if self.cfg.guidance_scale > 30:
            warn(
                f"system.guidance.guidance_scale is {self.cfg.guidance_scale:g}, a scale for score distillation; "
                "samples take 1 to 10"
            )
        sigmas = self.sigmas()
        info(
            f"Annealing {self.cfg.levels} noise levels over {total} steps, from sigma {sigmas[0]:.3g} to "
            f"{sigmas[-2]:.3g}; {describe()}"
        )
        return Annealing(sigmas, constraint, total, self.coupling(), torch.initial_seed())

    def _check_fits_a_loss(self, constraint: Constraint) -> None:
        """Checks the options.

        Raises:
            UserError: The sampler has the option, but a loss cannot.
        """
        instead = "or take `system_type: pullback-system`"
        if constraint.per_view_noise:
            raise UserError(
                f"`system.guidance.constraint` is {self.cfg.constraint}, which moves the noise by the renders of the "
                f"fit, and a loss cannot; use none or repaint, {instead}"
            )
        if self.policy().remembers:
            raise UserError(
                f"`system.guidance.guidance_policy` is {self.cfg.guidance_policy}, which remembers the noise level at "
                "which guidance ended, and a loss has no state of its own to resume from; use always or interval, "
                f"{instead}"
            )
        if self.cfg.order != 1:
            raise UserError(
                f"`system.guidance.order` is {self.cfg.order}, but a loss takes one step along one slope; set it to 1, "
                f"{instead}"
            )
        if self.cfg.tries != 1:
            raise UserError(
                f"`system.guidance.tries` is {self.cfg.tries} (preset {self.cfg.preset}), but a loss cannot begin the "
                f"run again; set it to 1, {instead}"
            )
