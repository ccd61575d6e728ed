"""Weights under the names of the first implementations, from those of diffusers: what a shared checkpoint holds."""

from __future__ import annotations

import re
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

Weights = dict[str, Tensor]

RESNET = {
    "norm1": "in_layers.0", "conv1": "in_layers.2", "time_emb_proj": "emb_layers.1", "norm2": "out_layers.0",
    "conv2": "out_layers.3", "conv_shortcut": "skip_connection",
}  # fmt: skip
AROUND = {
    "conv_in": "input_blocks.0.0", "conv_norm_out": "out.0", "conv_out": "out.2",
    "time_embedding.linear_1": "time_embed.0", "time_embedding.linear_2": "time_embed.2",
    "add_embedding.linear_1": "label_emb.0.0", "add_embedding.linear_2": "label_emb.0.2",
}  # fmt: skip
OPEN_CLIP = {
    "layer_norm1": "ln_1", "layer_norm2": "ln_2", "mlp.fc1": "mlp.c_fc", "mlp.fc2": "mlp.c_proj",
    "self_attn.out_proj": "attn.out_proj",
}  # fmt: skip


def read(folder: Path, part: str) -> Weights:
    (file,) = (folder / part).glob("*.safetensors")
    return load_file(file)


def unet(weights: Weights, layers: int = 1) -> Weights:
    """A UNet's of Stable Diffusion, with so many layers in each block on its way down."""

    def place(name: str) -> str:
        for own, first in AROUND.items():
            if name.startswith(f"{own}."):
                return first + name.removeprefix(own)
        way, _, rest = name.partition("_block")
        if way == "mid":
            kind, index, leaf = _groups(r"\.(\w+?)s\.(\d)\.(.*)", rest)
            return f"middle_block.{1 if kind == 'attention' else 2 * int(index)}.{_resnet(leaf, kind)}"
        block, kind, index, leaf = _groups(r"s\.(\d)\.(\w+?)s\.(\d)\.(.*)", rest)
        count = layers + 1
        number = int(block) * count + int(index) + (1 if way == "down" else 0)
        if kind == "downsampler":
            return f"input_blocks.{(int(block) + 1) * count}.0.{leaf.replace('conv', 'op')}"
        if kind == "upsampler":
            attends = any(key.startswith(f"up_blocks.{block}.attentions") for key in weights)
            return f"output_blocks.{(int(block) + 1) * count - 1}.{2 if attends else 1}.{leaf}"
        column = 1 if kind == "attention" else 0
        return f"{'input' if way == 'down' else 'output'}_blocks.{number}.{column}.{_resnet(leaf, kind)}"

    return {f"model.diffusion_model.{place(name)}": tensor for name, tensor in weights.items()}


def _groups(pattern: str, text: str) -> tuple[str, ...]:
    match = re.fullmatch(pattern, text)
    assert match, text
    return match.groups()


def _resnet(leaf: str, kind: str) -> str:
    if kind != "resnet":
        return leaf
    module, _, kind = leaf.rpartition(".")
    return f"{RESNET[module]}.{kind}"


def vae(weights: Weights, blocks: int) -> Weights:
    """A KL autoencoder's."""

    def place(name: str) -> str:
        name = name.replace("conv_norm_out", "norm_out").replace("conv_shortcut", "nin_shortcut")
        name = re.sub(r"down_blocks\.(\d)\.resnets\.(\d)", r"down.\1.block.\2", name)
        name = re.sub(r"down_blocks\.(\d)\.downsamplers\.0", r"down.\1.downsample", name)
        name = re.sub(r"up_blocks\.(\d)\.", lambda m: f"up.{blocks - 1 - int(m[1])}.", name)
        name = re.sub(r"resnets\.(\d)", r"block.\1", name).replace("upsamplers.0", "upsample")
        name = re.sub(r"mid_block\.block\.(\d)", lambda m: f"mid.block_{int(m[1]) + 1}", name)
        name = name.replace("mid_block.attentions.0", "mid.attn_1").replace("group_norm", "norm")
        for own, first in {"to_q": "q", "to_k": "k", "to_v": "v", "to_out.0": "proj_out"}.items():
            name = name.replace(own, first)
        return f"first_stage_model.{name}"

    def shaped(name: str, tensor: Tensor) -> Tensor:
        return tensor[:, :, None, None] if "attn_1" in name and tensor.ndim == 2 else tensor  # convolutions there

    return {place(name): shaped(place(name), tensor) for name, tensor in weights.items()}


def clip(weights: Weights, prefix: str = "cond_stage_model.transformer.") -> Weights:
    """Of OpenAI's CLIP."""
    return {f"{prefix}text_model.{name.removeprefix('text_model.')}": tensor for name, tensor in weights.items()}


def open_clip(weights: Weights, prefix: str = "cond_stage_model.model.") -> Weights:
    """Of OpenCLIP, which has one matrix for query, key and value."""
    weights = {name.removeprefix("text_model."): tensor for name, tensor in weights.items()}
    out: Weights = {"logit_scale": torch.tensor(1.0)}
    for name, tensor in weights.items():
        if name == "text_projection.weight":
            out["text_projection"] = tensor.T.contiguous()
        elif name.startswith("embeddings.token"):
            out["token_embedding.weight"] = tensor
        elif name.startswith("embeddings.position"):
            out["positional_embedding"] = tensor
        elif name.startswith("final_layer_norm"):
            out[name.replace("final_layer_norm", "ln_final")] = tensor
        elif ".q_proj." in name:
            rows = torch.cat([weights[name.replace("q_proj", f"{which}_proj")] for which in "qkv"])
            path = name.replace("encoder.layers", "transformer.resblocks").replace("self_attn.q_proj.", "attn.in_proj_")
            out[path] = rows
        elif ".k_proj." not in name and ".v_proj." not in name:
            for own, first in OPEN_CLIP.items():
                name = name.replace(own, first)
            out[name.replace("encoder.layers", "transformer.resblocks")] = tensor
    return {prefix + name: tensor for name, tensor in out.items()}


def save(file: Path, *parts: Weights) -> Path:
    save_file({name: tensor.contiguous() for part in parts for name, tensor in part.items()}, file)
    return file
