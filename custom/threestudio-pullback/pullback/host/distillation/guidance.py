"""What the host's guidances of score distillation share: model, prompts, times, loss, and the count of calls.

They have threestudio 0.2.3's keys, default values and behaviour (tests/threestudio/test_fidelity.py), with these
differences: images are encoded to the mean of the VAE's posterior, not to a sample of it, and shrunk with
anti-aliasing; any prediction type works; Perp-Neg pairs the negatives of a batch with their own pictures, and VSD has
it too; and the last three of the options.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor

from ... import models
from ...baselines.distil import Step
from ...denoiser import Sigma
from ...errors import NonFiniteError, UserError, check_finite
from ..config import C, config_path
from ..registry import info, warn


@dataclass(frozen=True)
class StepEach(Step):
    """A `Step` whose `random_level` draws a level for each view, or for each group of views that are denoised together.

    Attributes:
        group: Views in a group.
    """

    group: int = 1

    def random_level(self) -> Sigma:
        """[V]; each level equally likely."""
        index = torch.randint(len(self.levels), (-(-len(self.clean) // self.group),), generator=self.generator)
        levels = torch.tensor(self.levels, dtype=torch.float64)[index].repeat_interleave(self.group)
        return levels[: len(self.clean)].to(self.clean.device)


class Distillation:
    """`guidance(rgb, prompt_utils, **batch)` of threestudio's systems, around a method's `gradient`.

    nfe is the number of denoiser calls so far; each view of each network evaluation counts.
    """

    role = "guidance"

    cfg: Any
    device: torch.device
    loss_name: str
    nfe = 0
    _epoch = _step = 0

    def configure(self) -> None:
        """Loads the model; raises UserError where it cannot work at `image_size`."""
        self._words: dict[int, models.WordsOf] = {}
        self.model = self.load("pretrained_model_name_or_path")
        if size := self.cfg.image_size:
            try:
                self.model.check_image_size(size, size)
            except models.ModelError as error:
                raise UserError(f"`{config_path(self.cfg, 'image_size')}` {error.message}") from error

    @property
    def group(self) -> int:
        """Views that the model sees at once."""
        return models.group_of(self.model)

    def load(self, key: str) -> models.LatentModel:
        """The frozen model that a key of the config names."""
        info("Loading the diffusion model %s", self.cfg[key])
        model = models.load_configured(self.cfg, key, config_path(self.cfg, key), self.device)
        for sentence in getattr(model, "cautions", ()):
            warn(sentence)
        return model

    def words(self, model: models.LatentModel, prompt_utils: Any) -> Any:
        """The prompt's embeddings as a model takes them."""
        return self._words.setdefault(id(model), models.WordsOf(model, warn))(prompt_utils, str)

    def gradient(self, step: Step) -> Tensor:
        """Override: the gradient [B,c,h,w] that the latents descend."""
        raise NotImplementedError

    def second(self, prompt_utils: Any) -> Any:
        """Override: the method's second denoiser, for `step.other`."""
        return None

    def further_losses(self, latents: Tensor, prompt_utils: Any, views: dict[str, Any]) -> dict[str, Tensor]:
        """Override: losses beside that of the gradient, of latents [B,c,h,w] without gradient."""
        return {}

    def update_step(self, epoch: int, global_step: int, on_load_weights: bool = False) -> None:
        """Notes epoch and step, which the schedules need."""
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
            prompt_utils: the prompt's embeddings, what a prompt processor returns.
            elevation: [B], degrees.
            azimuth: [B], degrees.
            camera_distances: [B], world units.
            rgb_as_latents: whether `rgb` are latents.
            batch: what else the batch has; methods may read it.

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
                latents = self._latents(images, rgb_as_latents)
                low, high = self.times()
                networks = (self._counted(d, views) for d in (self.denoiser(prompt_utils), self.second(prompt_utils)))
                levels = self._levels(low, high)
                with torch.no_grad():
                    step = StepEach(latents.detach(), 0.0, levels, torch.default_generator, *networks, group=self.group)
                    pull = self.gradient(step)
                pull = torch.nan_to_num(pull) if self.cfg.nan_to_num else check_finite(pull, "the gradient")
                if self.cfg.grad_clip is not None:
                    limit = C(self.cfg.grad_clip, self._epoch, self._step)
                    pull = pull.clamp(-limit, limit)
                losses = self.further_losses(latents.detach(), prompt_utils, views)
        except NonFiniteError as error:
            raise NonFiniteError(f"stopped at step {self._step}: {error}") from error
        numbers = {"grad_norm": pull.norm(), "min_step": low, "max_step": high, "nfe": self.nfe}
        return {self.loss_name: self.loss(latents, pull), **losses, **{k: float(v) for k, v in numbers.items()}}

    def loss(self, latents: Tensor, pull: Tensor) -> Tensor:
        """½ Σ g² / B, with derivative g/B."""
        return 0.5 * (latents - (latents - pull).detach()).square().sum() / len(latents)

    def times(self) -> tuple[int, int]:
        """The least and largest time t of this step; both can be drawn."""
        low, high = (C(self.cfg[f"{name}_step_percent"], self._epoch, self._step) for name in ("min", "max"))
        share = self.annealing()
        if share is not None:
            highest = self.cfg.max_step_percent
            start = highest if isinstance(highest, (int, float)) else highest[1]
            low = high = (start - low) * (1 - min(share, 1.0)) + low
        return self._time(low), self._time(high)

    def annealing(self) -> float | None:
        """How far t has fallen from the largest to the least, in [0, 1]; None where it is drawn from all.

        With `sqrt_anneal` this is the root of the share of the steps; a subclass may override it.
        """
        return (self._step / self.cfg.trainer_max_steps) ** 0.5 if self.cfg.get("sqrt_anneal") else None

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
        """The guided denoiser of a prompt, with Perp-Neg where the prompt processor has it switched on.

        Args:
            prompt_utils: the prompt's embeddings.
            scale: guidance scale in the config's convention; None takes the config's.
            model: None takes the guidance's own.

        Returns:
            A denoiser whose views are dicts with elevation, azimuth [V] in degrees and camera_distances [V], and c2w
            [V,4,4] for a model of several views.

        Raises:
            UserError: The prompt has Perp-Neg, and the model sees several views at once.
        """
        model, scale = model or self.model, self.cfg.guidance_scale if scale is None else scale
        prompt_utils = self.words(model, prompt_utils)
        prompt = prompt_utils, self.cfg.view_dependent_prompting
        if prompt_utils.use_perp_neg:
            if self.group > 1:
                raise UserError(f"`system.prompt_processor.use_perp_neg` {models.NO_PERP_NEG}")
            return models.PerpNegDenoiser(model, models.perp_neg_text_of(*prompt), cast(float, scale))
        return models.GuidedDenoiser(model, models.text_of(*prompt), scale + self.cfg.guidance_scale_plus_one)

    def _latents(self, images: Tensor, encoded: bool) -> Tensor:
        size = self.cfg.image_size or self.model.image_size
        if encoded:
            return _resize(images, size // self.model.vae_scale_factor)
        return self.model.encode(_resize(images, size) * 2 - 1)


def _resize(images: Tensor, size: int) -> Tensor:
    if images.shape[-2:] == (size, size):
        return images
    return F.interpolate(images, (size, size), mode="bilinear", antialias=True, align_corners=False)
