"""MVDream (Shi et al. 2023, arXiv 2308.16512) and models of its form: four views of one object, denoised together."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

import torch

from .. import autoencoder, published_mvdream
from ..protocol import Conditioning
from ..reading import ModelFolder
from ..schedulers import schedule_of
from . import ANY, Family, register
from ._latent_unet import DiffusionModel
from .stable_diffusion import check_fit, load_text

PARTS = {
    "tokenizer": "CLIPTokenizer",
    "text_encoder": "CLIPTextModel",
    "unet": "MultiViewUNet2DConditionModel",
    "vae": "AutoencoderKL",
    "scheduler": ANY,
}
PUBLISHED_PARTS = PARTS | {"unet": "MultiViewUNetModel"}
"""Of the published folders, whose UNet has the names of the first implementation."""


class MultiViewModel(DiffusionModel):
    """A `DiffusionModel` of groups of views, the views of a group in a row.

    Its prompts are `Conditioning`s with "text" [V,T,D] and "camera" [V,16], see `multi_view.camera_numbers`.
    """

    @property
    def group_size(self) -> int:
        """Views in a group."""
        return int(self.unet.config.group)

    def network_inputs(self, text: Conditioning) -> dict[str, Any]:
        """Texts and cameras by the UNet's names."""
        return {"encoder_hidden_states": text.tensors["text"], "class_labels": text.tensors["camera"]}


def load(
    folder: ModelFolder, device: torch.device, dtype: torch.dtype, parts: Mapping[str, str] = PARTS
) -> MultiViewModel:
    """Loads a model; errors as for `models.load`."""
    schedule, prediction_type = schedule_of(folder)
    if parts is PARTS:
        unet = folder.network("unet", "pullback.models.multi_view.MultiViewUNet2DConditionModel", dtype)
    else:
        unet = published_mvdream.load_unet(folder, dtype)
    unet = folder.kept.place(unet, device)
    vae = autoencoder.load(folder, dtype).to(device)
    check_fit(folder, unet.config, vae.config.latent_channels, "multi-view", "projection")
    text = load_text(folder, device, dtype)
    fingerprint = functools.partial(folder.fingerprint, parts)
    return MultiViewModel(unet, vae, text, schedule, prediction_type, fingerprint, folder.has_own_text)


register(Family("MVDream", PUBLISHED_PARTS, functools.partial(load, parts=PUBLISHED_PARTS), load_text))
register(Family("multi-view", PARTS, load, load_text))
