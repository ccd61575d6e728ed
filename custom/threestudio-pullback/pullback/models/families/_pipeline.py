"""Models that diffusers has a pipeline for: it embeds the prompts, and a family says how its network is called."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ...denoiser import Sigma
from .. import autoencoder, schedulers
from ..model_error import ModelError
from ..pipeline_text import PipelineText
from ..protocol import Conditioning
from ..reading import ModelFolder
from . import Family, register
from ._frozen import FrozenModel, wide

Tensors = Mapping[str, Tensor]
"""The tensors of a `Conditioning`, of V prompts."""


class PipelineModel(FrozenModel):
    """A model of a family with a pipeline; a family overrides `embed` and `predict`.

    Args:
        network: Its network.
        vae: Its autoencoder; None for a model of pixels.
        text: Its text encoders.
        schedule: Its noise levels.
        prediction_type: As `PREDICTION_TYPES`, or "flow" for ε − x0.
        fingerprint: See `LatentModel`.

    Attributes:
        cautions: Sentences that a user of the model must read.
    """

    pipeline = ""
    """Diffusers' class."""
    patch = 1
    """Latents per token, along each side."""
    packing = 1
    """Latents whose channels the network takes together; see `pack`."""
    half = torch.bfloat16
    """See `Family`; T5 and most transformers overflow in float16."""
    embeds_prompts = True
    """Prompts are embedded here, from their words: a prompt processor for Stable Diffusion cannot."""

    def __init__(
        self,
        network: Any,
        vae: Any,
        text: PipelineText,
        schedule: Any,
        prediction_type: str,
        fingerprint: Callable[[], str],
    ):
        size = text.folder.json("model_index.json").get("default_sample_size")
        super().__init__(network, vae, schedule, fingerprint, self.patch, size)
        channels, takes = self.packing * (3 if vae is None else self.latent_channels), network.config.in_channels
        if takes != channels:
            raise ModelError(
                f"the network of {text.folder.path} takes {takes} channels in place of {channels}, as inpainting, "
                "editing and upscaling models do; use a text-to-image model"
            )
        self.text, self.prediction_type = text, prediction_type
        self.cautions = tuple(self.warnings())

    @staticmethod
    def levels(folder: ModelFolder) -> tuple[Any, str]:
        """The noise levels of a folder, and what the network predicts; flow matching unless it is overridden."""
        return schedulers.flow_schedule(schedulers.config_of(folder, schedulers.FLOW))

    def embed(self, pipe: Any, prompts: list[str]) -> dict[str, Tensor]:
        """Override: the tensors [B,...] of B prompts, by names of the family's own; `pipe` has the text encoders."""
        raise NotImplementedError

    def predict(self, z: Tensor, t: Tensor, text: Tensors) -> Tensor:
        """Override: the network's answer, ε − x0 for flow matching.

        Args:
            z: The model's own state [V,c,h,w], in the network's dtype.
            t: [V], float32: in (0, 1) with 1 all noise for flow matching, else the step of the training, from 0.
            text: Of V prompts.
        """
        raise NotImplementedError

    def embed_negative(self, pipe: Any, prompts: list[str]) -> dict[str, Tensor]:
        """The tensors of negative prompts; a family whose pipeline embeds them otherwise overrides it."""
        return self.embed(pipe, prompts)

    def warnings(self) -> list[str]:
        """Override: sentences for `cautions`."""
        return []

    def encode_prompt(self, prompts: list[str]) -> Conditioning:
        """`Prompts` of B texts."""
        return self._encode(self.embed, prompts)

    def encode_negative_prompt(self, prompts: list[str]) -> Conditioning:
        """`Prompts` of B negative texts."""
        return self._encode(self.embed_negative, prompts)

    def _encode(self, embed: Callable[[Any, list[str]], dict[str, Tensor]], prompts: list[str]) -> Conditioning:
        with self.text.loaded() as pipe:
            self.text.check(pipe, prompts)
            tensors = embed(pipe, prompts)
        return Conditioning({name: self._placed(tensor) for name, tensor in tensors.items()})

    def _placed(self, tensor: Tensor) -> Tensor:
        return tensor.to(self.device, self.dtype if tensor.is_floating_point() else None)

    @torch.no_grad()
    def predict_x0(self, noisy: Tensor, sigma: Sigma, text: Conditioning) -> Tensor:
        """Posterior mean x̂0 [V,c,h,w] of noisy = x0 + σ ε; see `LatentModel`."""
        return self._predict_x0(noisy, sigma, text)

    def _predict_x0(self, noisy: Tensor, sigma: Sigma, text: Conditioning) -> Tensor:
        """`predict_x0`, with gradients where they are enabled."""
        tensors = {name: self._placed(tensor) for name, tensor in text.tensors.items()}

        def net(z: Tensor, t: Sigma) -> Tensor:
            times = torch.as_tensor(t, dtype=torch.float32, device=z.device).expand(len(z))
            return self.predict(z.to(self.dtype), times, tensors).to(z.dtype)

        return self.x0(net, noisy.to(self.device, wide(noisy)), sigma)


def register_pipeline(
    name: str, model: type[PipelineModel], parts: Mapping[str, str], optional: Mapping[str, str] | None = None
) -> Family:
    """Registers a family.

    Args:
        name: See `Family`.
        model: Its class.
        parts: See `Family`; those of the network and the autoencoder are their classes in diffusers.
        optional: See `Family`.
    """

    def load(folder: ModelFolder, device: torch.device, dtype: torch.dtype) -> PipelineModel:
        kind = "transformer" if "transformer" in parts else "unet"
        schedule, prediction_type = model.levels(folder)
        index = folder.json("model_index.json")
        network = folder.kept.place(folder.network(kind, f"diffusers.{parts[kind]}", dtype), device)
        vae = autoencoder.load(folder, dtype, index["vae"][-1], True).to(device) if "vae" in parts else None
        text = PipelineText(folder, model.pipeline, folder.kept.text_device(device), dtype, {kind: network})
        fingerprint = functools.partial(folder.fingerprint, {*parts, *text.parts()})
        return model(network, vae, text, schedule, prediction_type, fingerprint)

    return register(Family(name, parts, load, optional=optional or {}, pipeline=model.pipeline, half=model.half))


def half(answer: Tensor, z: Tensor) -> Tensor:
    """The first channels of an answer, as many as z has; the others are a learned variance."""
    return answer[:, : z.shape[1]]


def pack(z: Tensor) -> Tensor:
    """Latents [V,c,h,w] as tokens [V,(h/2)(w/2),4c] of two by two."""
    return F.pixel_unshuffle(z, 2).flatten(2).mT


def unpack(tokens: Tensor, z: Tensor) -> Tensor:
    """Latents like z of their tokens, see `pack`."""
    height, width = (size // 2 for size in z.shape[-2:])
    return F.pixel_shuffle(tokens.mT.unflatten(2, (height, width)), 2)


def places(height: int, width: int, count: int, like: Tensor) -> Tensor:
    """The row and column of each token in a grid, as the second and third of `count` numbers [h·w,count], float32.

    bfloat16 has no odd numbers above 256.
    """
    rows, columns = (torch.arange(size, dtype=torch.float32, device=like.device) for size in (height, width))
    grid = torch.cartesian_prod(rows, columns)
    return F.pad(grid, (1, count - 3))
