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

SD3 = {
    r"^transformer_blocks": "joint_blocks", r"^pos_embed\.pos_embed": "pos_embed",
    r"^pos_embed\.proj": "x_embedder.proj",
    r"^time_text_embed\.timestep_embedder": "t_embedder", r"^time_text_embed\.text_embedder": "y_embedder",
    r"linear_1": "mlp.0", r"linear_2": "mlp.2", r"^norm_out\.linear": "final_layer.adaLN_modulation.1",
    r"^proj_out": "final_layer.linear", r"attn\.to_q": "x_block.attn.qkv",
    r"attn\.add_q_proj": "context_block.attn.qkv",
    r"attn\.to_out\.0": "x_block.attn.proj", r"attn\.to_add_out": "context_block.attn.proj",
    r"norm1\.linear": "x_block.adaLN_modulation.1", r"norm1_context\.linear": "context_block.adaLN_modulation.1",
    r"ff\.net\.0\.proj": "x_block.mlp.fc1", r"ff\.net\.2": "x_block.mlp.fc2",
    r"ff_context\.net\.0\.proj": "context_block.mlp.fc1", r"ff_context\.net\.2": "context_block.mlp.fc2",
}  # fmt: skip

FLUX = {
    r"^single_transformer_blocks\.(\d+)\.attn\.to_q": r"single_blocks.\1.linear1",
    r"^single_transformer_blocks\.(\d+)\.attn\.norm_q\.weight": r"single_blocks.\1.norm.query_norm.scale",
    r"^single_transformer_blocks\.(\d+)\.attn\.norm_k\.weight": r"single_blocks.\1.norm.key_norm.scale",
    r"^single_transformer_blocks\.(\d+)\.norm\.linear": r"single_blocks.\1.modulation.lin",
    r"^single_transformer_blocks\.(\d+)\.proj_out": r"single_blocks.\1.linear2",
    r"^transformer_blocks": "double_blocks", r"^x_embedder": "img_in", r"^context_embedder": "txt_in",
    r"^time_text_embed\.timestep_embedder": "time_in", r"^time_text_embed\.text_embedder": "vector_in",
    r"^time_text_embed\.guidance_embedder": "guidance_in", r"linear_1": "in_layer", r"linear_2": "out_layer",
    r"^norm_out\.linear": "final_layer.adaLN_modulation.1", r"^proj_out": "final_layer.linear",
    r"attn\.to_q": "img_attn.qkv", r"attn\.add_q_proj": "txt_attn.qkv",
    r"attn\.to_out\.0": "img_attn.proj", r"attn\.to_add_out": "txt_attn.proj",
    r"attn\.norm_q\.weight": "img_attn.norm.query_norm.scale", r"attn\.norm_k\.weight": "img_attn.norm.key_norm.scale",
    r"attn\.norm_added_q\.weight": "txt_attn.norm.query_norm.scale",
    r"attn\.norm_added_k\.weight": "txt_attn.norm.key_norm.scale",
    r"norm1\.linear": "img_mod.lin", r"norm1_context\.linear": "txt_mod.lin",
    r"ff\.net\.0\.proj": "img_mlp.0", r"ff\.net\.2": "img_mlp.2",
    r"ff_context\.net\.0\.proj": "txt_mlp.0", r"ff_context\.net\.2": "txt_mlp.2",
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


def stable_diffusion_3(weights: Weights) -> Weights:
    """A transformer's of Stable Diffusion 3."""
    last = max(int(name.split(".")[1]) for name in weights if name.startswith("transformer_blocks."))
    return _transformer(weights, SD3, ("norm_out.linear.", f"transformer_blocks.{last}.norm1_context.linear."))


def flux(weights: Weights) -> Weights:
    """A transformer's of FLUX.1."""
    return _transformer(weights, FLUX, ("norm_out.linear.",))


def _transformer(weights: Weights, names: dict[str, str], swapped: tuple[str, ...]) -> Weights:
    """One matrix for query, key and value (and what a single block has beside), and shift before scale at the end."""
    out: Weights = {}
    for name, tensor in weights.items():
        if re.search(r"to_[kv]\.|add_[kv]_proj\.|single.*proj_mlp", name):
            continue
        if match := re.search(r"(to|add)_q(_proj)?\.", name):
            others = [name.replace(match[0], match[0].replace("_q", f"_{which}")) for which in "qkv"]
            others += [name.replace("attn.to_q", "proj_mlp")] if name.startswith("single") else []
            tensor = torch.cat([weights[other] for other in others])
        if name.startswith(swapped):
            tensor = torch.cat(tensor.chunk(2)[::-1])
        for own, first in names.items():
            name = re.sub(own, first, name)
        out[name] = tensor
    return out


def save(file: Path, *parts: Weights) -> Path:
    save_file({name: tensor.contiguous() for part in parts for name, tensor in part.items()}, file)
    return file
