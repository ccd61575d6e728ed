"""Tiny random parts of text-to-image models in the classes of diffusers and transformers, for folders of any family."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch
import transformers
from pullback.errors import UserError
from pullback.models import config_key, load
from tiny_pipeline import WORDS, write_tokenizer
from tokenizers import Tokenizer, models, pre_tokenizers

CHAT = "{% for message in messages %}{{ message['content'] }} {% endfor %}"
WIDTH = 16


def write(path: Path, pipeline: str, parts: dict[str, Any], **options: Any) -> Path:
    """A folder with these parts, as the pipeline's save_pretrained writes it."""
    path.mkdir(parents=True, exist_ok=True)
    index: dict[str, Any] = {"_class_name": pipeline, "_diffusers_version": diffusers.__version__, **options}
    for name, part in parts.items():
        if part is None:
            index[name] = [None, None]
            continue
        if isinstance(part, str):  # a tokenizer's folder, written already
            index[name] = ["transformers", part]
            continue
        library = type(part).__module__.partition(".")[0]
        if isinstance(part, torch.nn.Module):
            fill(part)
        part.save_pretrained(path / name)  # type: ignore[operator]
        index[name] = [library, type(part).__name__]
    (path / "model_index.json").write_text(json.dumps(index, indent=2))
    return path


def refusal(folder: Path, **option: Any) -> str:
    """What loading a folder with one option says against it, in one line that begins with the option's key."""
    (name,) = option
    with pytest.raises(UserError) as caught, config_key("system.guidance.pretrained_model_name_or_path"):
        load(folder, **option)
    said, key = str(caught.value), f"`system.guidance.{name}` "
    assert said.startswith(key) and "\n" not in said
    return said.removeprefix(key)


def fill(module: torch.nn.Module) -> None:
    """Random values for weights that begin at 0, without which a network's answer would not depend on its input."""
    for parameter in module.parameters():
        if parameter.ndim > 1 and not parameter.detach().any():
            torch.nn.init.normal_(parameter, std=0.2)


def clip_tokenizer(path: Path, name: str = "tokenizer") -> str:
    write_tokenizer(path / name)
    return "CLIPTokenizer"


def words(length: int = 64) -> Any:
    """A tokenizer of whole words, with padding, an end mark and a chat template."""
    vocabulary = {word: i for i, word in enumerate(["<pad>", "</s>", "<unk>", ",", ".", *WORDS])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    special = {"pad_token": "<pad>", "eos_token": "</s>", "unk_token": "<unk>"}
    made = transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=length, **special)
    made.chat_template = CHAT
    return made


def seeded(make: Callable[[], Any], seed: int = 0) -> Any:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return make()


def clip(path: Path, name: str = "tokenizer", projection: bool = False, seed: int = 0, width: int = WIDTH) -> Any:
    """A CLIP text encoder for the tokenizer in `path`/`name`."""
    size = len(json.loads((path / name / "vocab.json").read_text()))
    config = transformers.CLIPTextConfig(
        vocab_size=size, hidden_size=width, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2,
        max_position_embeddings=16, bos_token_id=size - 2, eos_token_id=size - 1, pad_token_id=size - 1,
        projection_dim=width,
    )  # fmt: skip
    kind = transformers.CLIPTextModelWithProjection if projection else transformers.CLIPTextModel
    return seeded(lambda: kind(config), seed)


def t5(seed: int = 1, width: int = WIDTH) -> Any:
    config = transformers.T5Config(vocab_size=32, d_model=width, d_kv=8, d_ff=32, num_layers=2, num_heads=2)
    return seeded(lambda: transformers.T5EncoderModel(config), seed)


def gemma2(seed: int = 1) -> Any:
    config = transformers.Gemma2Config(
        vocab_size=32, hidden_size=WIDTH, intermediate_size=32, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=1, head_dim=8, pad_token_id=0, eos_token_id=1, bos_token_id=1,
    )  # fmt: skip
    return seeded(lambda: transformers.Gemma2Model(config), seed)


def qwen3(layers: int = 2, kind: Any = None, seed: int = 1) -> Any:
    config = transformers.Qwen3Config(
        vocab_size=32, hidden_size=WIDTH, intermediate_size=32, num_hidden_layers=layers, num_attention_heads=2,
        num_key_value_heads=1, head_dim=8, pad_token_id=0, eos_token_id=1, bos_token_id=1,
    )  # fmt: skip
    return seeded(lambda: (kind or transformers.Qwen3Model)(config), seed)


def vae(latent: int = 16, **options: Any) -> Any:
    """A KL autoencoder of two pixels per latent."""
    settings: dict[str, Any] = {
        "block_out_channels": (8, 16), "norm_num_groups": 4, "latent_channels": latent, "sample_size": 16,
        "down_block_types": ("DownEncoderBlock2D",) * 2, "up_block_types": ("UpDecoderBlock2D",) * 2,
        "scaling_factor": 0.5,
    }  # fmt: skip
    return seeded(lambda: diffusers.AutoencoderKL(**settings | options), 2)


def unet(seed: int = 3, **options: Any) -> Any:
    settings: dict[str, Any] = {
        "sample_size": 8, "in_channels": 4, "out_channels": 4, "layers_per_block": 1, "block_out_channels": (8, 16),
        "norm_num_groups": 4, "cross_attention_dim": WIDTH, "attention_head_dim": 4,
        "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
        "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
    }  # fmt: skip
    return seeded(lambda: diffusers.UNet2DConditionModel(**settings | options), seed)


def flow(**options: Any) -> Any:
    """A scheduler of flow matching, whose shift moves the steps of a pipeline."""
    return diffusers.FlowMatchEulerDiscreteScheduler(**{"shift": 3.0, **options})


def ddim(**options: Any) -> Any:
    settings: dict[str, Any] = {
        "beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear", "clip_sample": False,
        "steps_offset": 1, "timestep_spacing": "leading",
    }  # fmt: skip
    return diffusers.DDIMScheduler(**settings | options)
