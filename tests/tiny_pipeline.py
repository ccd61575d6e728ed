"""A randomly initialised miniature Stable-Diffusion folder in diffusers' real format, built in a second."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from transformers import CLIPTextConfig, CLIPTextModel

BOS, EOS = "<|startoftext|>", "<|endoftext|>"
WORDS = ["a", "red", "blue", "cube", "ball", "front", "side", "back", "overhead", "view", "of", "and", "with"]
MAX_TOKENS = 16


def _bytes_to_unicode() -> list[str]:
    """The printable alphabet byte-level BPE writes bytes in (Radford et al. 2019)."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    rest = [b for b in range(256) if b not in printable]
    return [chr(b) for b in printable] + [chr(256 + i) for i in range(len(rest))]


def write_tokenizer(folder: Path, words: list[str] = WORDS, max_tokens: int = MAX_TOKENS) -> int:
    """A CLIPTokenizer folder that knows ``words`` whole and spells every other one; returns its size."""
    folder.mkdir(parents=True, exist_ok=True)
    alphabet = _bytes_to_unicode()
    tokens = alphabet + [c + "</w>" for c in alphabet]
    merges: list[str] = []
    for word in words:
        parts = [*word[:-1], word[-1] + "</w>"]
        while len(parts) > 1:
            merge, joined = f"{parts[0]} {parts[1]}", parts[0] + parts[1]
            if merge not in merges:
                merges.append(merge)
                tokens.append(joined)
            parts = [joined, *parts[2:]]
    vocab = {token: i for i, token in enumerate([*dict.fromkeys(tokens), BOS, EOS])}
    (folder / "vocab.json").write_text(json.dumps(vocab, ensure_ascii=False), encoding="utf-8")
    (folder / "merges.txt").write_text("#version: 0.2\n" + "\n".join(merges) + "\n", encoding="utf-8")
    special = {"bos_token": BOS, "eos_token": EOS, "unk_token": EOS, "pad_token": EOS}
    (folder / "special_tokens_map.json").write_text(json.dumps(special))
    config = {"tokenizer_class": "CLIPTokenizer", "model_max_length": max_tokens, "do_lower_case": True}
    (folder / "tokenizer_config.json").write_text(json.dumps(special | config))
    return len(vocab)


def build(
    path: str | Path,
    prediction_type: str = "epsilon",
    sample_size: int = 8,
    seed: int = 0,
    scheduler: dict | None = None,
    variant: str | None = None,
) -> Path:
    """Write the folder: latents [4, sample_size, sample_size], images twice as large, text [B, 16, 16].

    ``scheduler`` overrides fields of the DDIM config; ``variant="fp16"`` names the weight files so.
    """
    path = Path(path)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        vocab_size = write_tokenizer(path / "tokenizer")
        text = CLIPTextModel(
            CLIPTextConfig(
                vocab_size=vocab_size, hidden_size=16, intermediate_size=32, num_hidden_layers=2,
                num_attention_heads=2, max_position_embeddings=MAX_TOKENS, bos_token_id=vocab_size - 2,
                eos_token_id=vocab_size - 1, pad_token_id=vocab_size - 1, projection_dim=16,
            )
        )  # fmt: skip
        vae = AutoencoderKL(
            block_out_channels=(8, 16), norm_num_groups=4, latent_channels=4, sample_size=2 * sample_size,
            down_block_types=("DownEncoderBlock2D",) * 2, up_block_types=("UpDecoderBlock2D",) * 2,
            scaling_factor=0.5,
        )  # fmt: skip
        unet = UNet2DConditionModel(
            sample_size=sample_size, in_channels=4, out_channels=4, layers_per_block=1,
            block_out_channels=(8, 16), norm_num_groups=4, cross_attention_dim=16, attention_head_dim=4,
            down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
            up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
        )  # fmt: skip
    settings = {
        "beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "clip_sample": False,
        "set_alpha_to_one": False, "steps_offset": 1, "prediction_type": prediction_type,
    } | (scheduler or {})  # fmt: skip
    DDIMScheduler(**settings).save_pretrained(path / "scheduler")
    text.save_pretrained(path / "text_encoder", safe_serialization=True, variant=variant)
    vae.save_pretrained(path / "vae", safe_serialization=True, variant=variant)
    unet.save_pretrained(path / "unet", safe_serialization=True, variant=variant)
    index = {
        "_class_name": "StableDiffusionPipeline", "_diffusers_version": "0.19.3",
        "feature_extractor": [None, None], "safety_checker": [None, None], "requires_safety_checker": False,
        "scheduler": ["diffusers", "DDIMScheduler"], "text_encoder": ["transformers", "CLIPTextModel"],
        "tokenizer": ["transformers", "CLIPTokenizer"], "unet": ["diffusers", "UNet2DConditionModel"],
        "vae": ["diffusers", "AutoencoderKL"],
    }  # fmt: skip
    (path / "model_index.json").write_text(json.dumps(index, indent=2))
    return path


def build_multi_view(path: Path, views: int = 4) -> Path:
    """`build`'s folder with a UNet of groups of views, random cameras' layers included."""
    from pullback.models.multi_view import CAMERA_NUMBERS, MultiViewUNet2DConditionModel

    build(path)
    config = {name: v for name, v in json.loads((path / "unet" / "config.json").read_text()).items() if name[0] != "_"}
    config |= {"class_embed_type": "projection", "projection_class_embeddings_input_dim": CAMERA_NUMBERS}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        unet = MultiViewUNet2DConditionModel(group=views, **config)
    unet.save_pretrained(path / "unet", safe_serialization=True)
    index = json.loads((path / "model_index.json").read_text())
    index |= {"_class_name": "MultiViewPipeline", "unet": ["pullback", "MultiViewUNet2DConditionModel"]}
    (path / "model_index.json").write_text(json.dumps(index, indent=2))
    return path
