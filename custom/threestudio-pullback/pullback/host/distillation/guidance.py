"""What the host's guidances of score distillation share: model, prompts, times, loss, and the count of calls.

They have threestudio 0.2.3's keys, default values and behaviour (tests/threestudio/test_fidelity.py), but for this:
images are encoded to the mean of the VAE's posterior, not to a sample of it, and shrunk with anti-aliasing; any
prediction type is understood; Perp-Neg pairs the negatives of a batch with their own pictures, and VSD has it too; and
what the options at the end of the block say.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor

from ... import models
from ...baselines.distil import Step
from ...denoiser import Sigma
from ...errors import ConfigError, NonFiniteError, UserError, check_at_least, check_finite
from ..base import BaseObject
from ..config import C, C_max, config_path
from ..registry import info


@dataclass
class Options(BaseObject.Config):
    """Keys that all of them have; min_step_percent, max_step_percent and grad_clip may be schedules."""

    pretrained_model_name_or_path: str = "stabilityai/stable-diffusion-2-1-base"
    guidance_scale: float = 100.0
    half_precision_weights: bool = True  # on a GPU
    view_dependent_prompting: bool = True
    min_step_percent: Any = 0.02  # bounds of the time t, as shares of the model's
    max_step_percent: Any = 0.98
    trainer_max_steps: int = 25000  # training steps that an annealed t takes to fall
    grad_clip: Any = None  # largest absolute value of the gradient
    use_img_loss: bool = False
    enable_memory_efficient_attention: bool = False
    enable_sequential_cpu_offload: bool = False
    enable_attention_slicing: bool = False
    enable_channels_last_format: bool = False
    token_merging: bool = False
    token_merging_params: dict | None = field(default_factory=dict)
    # threestudio's own ways, which a fair comparison may want otherwise: guidance cond + s (cond − uncond), against
    # diffusers' uncond + s (cond − uncond) (with Perp-Neg it is diffusers'); NaNs set to 0, against an error (the one
    # default that is not threestudio's); renders resized to so many pixels (theirs 512), null: to the model's own size
    guidance_scale_plus_one: bool = True
    nan_to_num: bool = False
    image_size: int | None = None

    def unused(self) -> dict[str, str]:
        """Keys of threestudio that mean nothing here, and why."""
        return {"use_img_loss": "the loss in image space is not there"}

    def __post_init__(self) -> None:
        default = {f.name: f.default for f in fields(self)}
        for name, why in self.unused().items():
            if getattr(self, name) != default[name]:
                raise ConfigError(name, f"must be {str(default[name]).lower()}: {why}")
        for name in ("min_step_percent", "max_step_percent"):
            if not 0 <= C_max(getattr(self, name)) <= 1:
                raise ConfigError(name, f"must lie between 0 and 1, not {getattr(self, name)!r}")
        check_at_least(self, 1, "trainer_max_steps", *(["image_size"] if self.image_size is not None else []))


@dataclass(frozen=True)
class StepEach(Step):
    """What a method knows, with a level drawn for each view."""

    def random_level(self) -> Sigma:
        """[V]; each level equally likely."""
        index = torch.randint(len(self.levels), (len(self.clean),), generator=self.generator)
        return torch.tensor(self.levels, dtype=torch.float64)[index].to(self.clean.device)


class Distillation:
    """`guidance(rgb, prompt_utils, **batch)` of threestudio's systems, around a method's `gradient`.

    nfe: denoiser calls so far, each view of each network evaluation counted singly.
    """

    cfg: Any
    device: torch.device
    loss_name: str
    nfe = 0
    _epoch = _step = 0

    def configure(self) -> None:
        self.model = self.load("pretrained_model_name_or_path")
        if size := self.cfg.image_size:
            try:
                self.model.check_image_size(size, size)
            except models.ModelError as error:
                raise UserError(f"`{config_path(self.cfg, 'image_size')}` {error.message}") from error

    def load(self, key: str) -> models.LatentModel:
        """The frozen model that a key of the config names."""
        info("Loading the diffusion model %s", self.cfg[key])
        return models.load_configured(self.cfg, key, config_path(self.cfg, key), self.device)

    def gradient(self, step: Step) -> Tensor:
        """Override: what the latents are to descend, [B,c,h,w]."""
        raise NotImplementedError

    def second(self, prompt_utils: Any) -> Any:
        """Override: the method's second denoiser, for `step.other`."""
        return None

    def further_losses(self, latents: Tensor, prompt_utils: Any, views: dict[str, Any]) -> dict[str, Tensor]:
        """Override: losses beside that of the gradient; latents [B,c,h,w] without gradient."""
        return {}

    def update_step(self, epoch: int, global_step: int, on_load_weights: bool = False) -> None:
        self._epoch, self._step = epoch, global_step

    def __call__(
        self,
        rgb: Tensor,
        prompt_utils: Any,
        elevation: Tensor,
        azimuth: Tensor,
        camera_distances: Tensor,
        rgb_as_latents: bool = False,
        **batch: Any,
    ) -> dict[str, Any]:
        """The loss of these pictures.

        Args:
            rgb: [B,H,W,3] in [0,1]; with rgb_as_latents [B,h,w,c], latents of the model.
            elevation, azimuth: [B], degrees. camera_distances: [B].

        Returns:
            loss_…: scalar, ½ Σ g² / B, whose derivative with respect to the latents is g/B, g the method's gradient.
            grad_norm, min_step, max_step (the times t to draw from), nfe: plain numbers.

        Raises:
            NonFiniteError: a NaN or infinity, with step and view; nan_to_num sets those of the gradient to 0.
        """
        views = {**batch, "elevation": elevation, "azimuth": azimuth, "camera_distances": camera_distances}
        try:
            with torch.autocast(rgb.device.type, enabled=False):
                images = check_finite(rgb.movedim(-1, 1), "the render").to(torch.promote_types(rgb.dtype, torch.float))
                latents = self._fit_latents(images) if rgb_as_latents else self._encode(images)
                low, high = self.times()
                known = (latents.detach(), 0.0, self._levels(low, high), torch.default_generator)
                asked = [self._counted(d, views) for d in (self.denoiser(prompt_utils), self.second(prompt_utils))]
                with torch.no_grad():
                    pull = self.gradient(StepEach(*known, *asked))
                pull = torch.nan_to_num(pull) if self.cfg.nan_to_num else check_finite(pull, "the gradient")
                if self.cfg.grad_clip is not None:
                    limit = C(self.cfg.grad_clip, self._epoch, self._step)
                    pull = pull.clamp(-limit, limit)
                losses = self.further_losses(latents.detach(), prompt_utils, views)
        except NonFiniteError as error:
            raise NonFiniteError(f"Stopped at step {self._step}: {error}.") from error
        return {
            self.loss_name: self.loss(latents, pull),
            **losses,
            "grad_norm": float(pull.norm()),
            "min_step": float(low),
            "max_step": float(high),
            "nfe": float(self.nfe),
        }

    def loss(self, latents: Tensor, pull: Tensor) -> Tensor:
        """½ Σ g² / B, with derivative g/B."""
        return 0.5 * (latents - (latents - pull).detach()).square().sum() / len(latents)

    def times(self) -> tuple[int, int]:
        """The least and largest time t of this step, both drawn."""
        low, high = (C(self.cfg[f"{name}_step_percent"], self._epoch, self._step) for name in ("min", "max"))
        share = self.annealing()
        if share is not None:
            highest = self.cfg.max_step_percent
            start = highest if isinstance(highest, (int, float)) else highest[1]
            low = high = (start - low) * (1 - min(share, 1.0)) + low
        return self._time(low), self._time(high)

    def annealing(self) -> float | None:
        """Override: the share done where t falls from the largest to the least, None where it is drawn from all."""
        return None

    def _time(self, percent: float) -> int:
        count = len(self.model.schedule.sigmas)
        return min(int(count * percent), count - 1)

    def _levels(self, low: int, high: int) -> list[float]:
        if low > high:
            least, largest = (config_path(self.cfg, f"{name}_step_percent") for name in ("min", "max"))
            raise UserError(f"`{least}` is above `{largest}` at step {self._step}; swap them")
        return self.model.schedule.sigmas[low : high + 1].flip(0).tolist()

    def _counted(self, denoise: Any, views: dict[str, Any]) -> Any:
        if denoise is None:
            return None

        def predict(noisy: Tensor, sigma: Sigma) -> Tensor:
            self.nfe += denoise.nfe_per_view * len(noisy)
            return denoise(noisy, sigma, views)

        return predict

    def denoiser(
        self, prompt_utils: Any, scale: float | None = None, model: models.LatentModel | None = None
    ) -> models.GuidedDenoiser:
        """The guided denoiser of a prompt processor's output; with Perp-Neg where that asks for it.

        scale: in the config's convention; by default the config's. Its views are dicts with elevation, azimuth [V] in
        degrees and camera_distances [V].
        """
        model, scale = model or self.model, self.cfg.guidance_scale if scale is None else scale

        told = prompt_utils, self.cfg.view_dependent_prompting
        if prompt_utils.use_perp_neg:
            return models.PerpNegDenoiser(model, models.perp_neg_text_of(*told), cast(float, scale))
        return models.GuidedDenoiser(model, models.text_of(*told), scale + self.cfg.guidance_scale_plus_one)

    def _encode(self, images: Tensor) -> Tensor:
        size = self.cfg.image_size or self.model.image_size
        return self.model.encode(_resize(images, size) * 2 - 1)

    def _fit_latents(self, latents: Tensor) -> Tensor:
        pixels = self.cfg.image_size or self.model.image_size
        return _resize(latents, pixels // self.model.vae_scale_factor)


def _resize(images: Tensor, size: int) -> Tensor:
    if images.shape[-2:] == (size, size):
        return images
    return F.interpolate(images, (size, size), mode="bilinear", antialias=True, align_corners=False)
