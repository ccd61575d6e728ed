"""Stable Diffusion 1.x and 2.x, and every model of that format: one UNet, one CLIP text encoder, a KL autoencoder."""

from __future__ import annotations

import functools
from typing import Any

import torch

from .. import autoencoder, quantised
from ..model_error import AGAIN, ModelError
from ..pipeline_text import TEXT_PARTS, taught
from ..reading import ModelFolder
from ..schedulers import schedule_of_unet
from ..text import TextEncoder
from . import ANY, Family, register
from ._latent_unet import DiffusionModel

NAME = "Stable Diffusion 1.x or 2.x"
PARTS = {
    "tokenizer": "CLIPTokenizer",
    "text_encoder": "CLIPTextModel",
    "unet": "UNet2DConditionModel",
    "vae": "AutoencoderKL",
    "scheduler": ANY,
}
TEXT_CONFIG = "text_encoder/config.json"
CLIP_VOCABULARY = 49408  # of transformers' CLIPTextConfig, where a config does not say


def load(folder: ModelFolder, device: torch.device, dtype: torch.dtype) -> DiffusionModel:
    """Loads a model that predicts ε, v, x0 or a flow; errors as for `models.load`."""
    schedule, prediction_type = schedule_of_unet(folder)
    unet = folder.kept.place(folder.network("unet", "diffusers.UNet2DConditionModel", dtype), device)
    vae = autoencoder.load(folder, dtype).to(device)
    check_fit(folder, unet.config, vae.config.latent_channels, NAME)
    own = functools.partial(folder.fingerprint, PARTS), folder.has_own_text
    return DiffusionModel(unet, vae, load_text(folder, device, dtype), schedule, prediction_type, *own)


def load_text(folder: ModelFolder, device: torch.device, dtype: torch.dtype = torch.float32) -> TextEncoder:
    """Loads tokenizer and text encoder; the encoder's weights are read at the first use."""
    place, has = folder.path / "tokenizer", {file.name for file in (folder.path / "tokenizer").glob("*")}
    if "tokenizer.json" not in has and not {"vocab.json", "merges.txt"} <= has:
        raise ModelError(f"{place} has no vocabulary (vocab.json and merges.txt); {AGAIN}")
    with folder.reading("tokenizer"):
        from transformers import CLIPTokenizer

        tokenizer: Any = CLIPTokenizer.from_pretrained(str(folder.path), subfolder="tokenizer", local_files_only=True)
    config = folder.json(TEXT_CONFIG)
    positions = int(config.get("max_position_embeddings", 77))
    highest, rows = max(tokenizer.get_vocab().values(), default=0), int(config.get("vocab_size", CLIP_VOCABULARY))
    if highest >= rows:
        raise ModelError(
            f"{place} has a token numbered {highest}, but the text encoder of {folder.path} has {rows} embeddings; "
            f"{AGAIN}, or save it after resize_token_embeddings"
        )

    def load_network() -> torch.nn.Module:
        return quantised.placed(folder.network("text_encoder", "transformers.CLIPTextModel"), device, dtype)

    tokens, load, spelled = min(int(tokenizer.model_max_length), positions), load_network, list
    if folder.embeddings:
        with folder.reading("text_encoder"):
            load, spelled = taught(tokenizer, load_network(), folder.embeddings)
    return TextEncoder(tokenizer, tokens, load, lambda: f"{dtype} {folder.fingerprint(TEXT_PARTS)}", spelled)


def check_fit(folder: ModelFolder, config: Any, latent: int, kind: str, classes: str | None = None) -> None:
    """Checks that a UNet belongs to the text encoder and the autoencoder of its folder.

    Args:
        folder: The model's.
        config: The UNet's.
        latent: Channels of the autoencoder's latents.
        kind: The family's name, for the error.
        classes: The kind of the UNet's class embedding that the family has.

    Raises:
        ModelError: It does not.
    """
    width = folder.json(TEXT_CONFIG).get("hidden_size")
    if config.get("time_cond_proj_dim"):
        raise ModelError(
            f"the UNet of {folder.path} is told a scale of guidance beside the time (time_cond_proj_dim), as those of "
            "latent consistency models are; use the model that it was distilled from"
        )
    if not config.in_channels == config.out_channels == latent:
        raise ModelError(
            f"the UNet of {folder.path} takes {config.in_channels} channels and returns {config.out_channels}, while "
            f"its VAE has {latent}, as inpainting and upscaling models do; use a text-to-image model"
        )
    if config.cross_attention_dim != width or config.class_embed_type != classes or config.addition_embed_type:
        raise ModelError(
            f"the UNet of {folder.path} needs another conditioning than its text encoder's {width}-wide "
            f"embeddings; use a {kind} model"
        )


register(Family(NAME, PARTS, load, load_text))
