"""Find a model by path or hub id, and load it with the code of its family."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable, Mapping
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from ..resources import find
from . import families, lora_file
from . import textual_inversion as inversion
from .hub import MOVED, looks_like_id, snapshot
from .libraries import quiet
from .memory import thrift
from .model_error import ModelError, config_key
from .protocol import LatentModel
from .reading import ModelFolder
from .single_file import ENDS, KEY, SingleFile, check_name, usual_configs
from .text import TextEncoder
from .weight_files import check_files


def load(
    name_or_path: str | Path,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
    local_files_only: bool = False,
    variant: str | None = None,
    vae: str | Path | None = None,
    *,
    single_file_config: str | Path | None = None,
    lora: Iterable[Mapping[str, Any]] | None = None,
    textual_inversion: Iterable[str | Path] | None = None,
    memory: int | None = None,
    enable_layerwise_casting: bool | None = None,
    enable_group_offload: bool | None = None,
    enable_4bit_weights: bool = False,
    config_path: str | None = None,
) -> LatentModel:
    """Loads a text-to-image model, frozen, of any family. Weights are read from safetensors and GGUF only.

    Args:
        name_or_path: A folder in diffusers' format, a hub id, or one safetensors or GGUF file with the weights of a
            model.
        device: CPU by default.
        dtype: Of the networks; float32 by default.
        local_files_only: Whether a hub id must be in the local cache; otherwise it is downloaded where it is not.
        variant: File variant such as "fp16". By default the plain files are read, or those in half precision where
            there are no others.
        vae: The folder of an autoencoder in diffusers' format, AutoencoderKL or AutoencoderTiny, that takes the place
            of the model's own.
        single_file_config: For one file, the folder in diffusers' format that has the configs and tokenizers of such a
            model, or its hub id, and the parts that are not in the file; by default diffusers' choice.
        lora: Files of low-rank changes, each {"path": file, "scale": its weight, 1 by default}, see `LoRAFile`.
        textual_inversion: Files of embeddings, whose words prompts may then have; see `textual_inversion.words`.
        memory: Of the GPU, in GB, 8, 12, 16 or 24: keeps the network as `memory.fitting` says; without effect on a CPU.
        enable_layerwise_casting: See `memory.Thrift`; by default as `memory` says.
        enable_group_offload: See `memory.Thrift`; by default as `memory` says.
        enable_4bit_weights: See `memory.Thrift`.
        config_path: Deprecated; use `with models.config_key(…)`.

    Raises:
        ModelError: The model cannot be loaded.
    """
    if config_path:
        warnings.warn("load(config_path=…) will go; use `with models.config_key(…)`", FutureWarning, stacklevel=2)
    with config_key(config_path) if config_path else nullcontext():
        other = {} if vae is None else {"vae": _autoencoder(vae)}
        folder, family = _find(name_or_path, local_files_only, variant, single_file_config)
        if not other.keys() <= family.parts.keys():
            raise ModelError(f"has no place in a {family.name} model; leave it out", "vae")
        at, changes = torch.device(device or "cpu"), lora_file.files(lora)
        for change in changes:
            change.check(folder, family.parts)
        small = memory if at.type == "cuda" else None
        ways = enable_layerwise_casting, enable_group_offload, enable_4bit_weights
        kept = thrift(folder, family.parts, small, *ways)
        folder = replace(folder, other=other, changes=changes, embeddings=inversion.files(textual_inversion), kept=kept)
        return family.load(folder, at, dtype or torch.float32)


def load_text_encoder(
    name_or_path: str | Path,
    device: torch.device | str | None = None,
    local_files_only: bool = False,
    variant: str | None = None,
) -> TextEncoder:
    """Loads tokenizer and text encoder (float32) alone. Arguments and errors are those of `load`."""
    folder, family = _find(name_or_path, local_files_only, variant)
    if family.load_text is None:
        raise ModelError(f"a {family.name} model embeds its prompts itself; use models.load(…).encode_prompt")
    return family.load_text(folder, torch.device(device or "cpu"))


def embeds_prompts(name_or_path: str | Path, local_files_only: bool = False, variant: str | None = None) -> bool:
    """Whether a model embeds its prompts itself and has no text encoder to load alone; arguments as for `load`."""
    if os.path.isfile(find(str(name_or_path))):
        return True
    return _find(name_or_path, local_files_only, variant)[1].load_text is None


def half_precision(
    name_or_path: str | Path,
    local_files_only: bool = False,
    variant: str | None = None,
    single_file_config: str | Path | None = None,
) -> torch.dtype:
    """The half precision that a model's networks stand; arguments as for `load`."""
    return _find(name_or_path, local_files_only, variant, single_file_config)[1].half


def resolve(name_or_path: str | Path, local_files_only: bool = False, variant: str | None = None) -> Path:
    """Where a model lies: the path itself, a shipped folder, or a hub id's snapshot, cached or downloaded.

    The arguments are those of `load`.

    Raises:
        ModelError: The path does not exist or is no diffusers folder, the id cannot be downloaded, or no family here
            supports the model.
    """
    path = find(str(name_or_path))
    return path if os.path.isfile(path) else _find(name_or_path, local_files_only, variant)[0].path


def fingerprint(folder: str | Path, components: Iterable[str] | None = None) -> str:
    """SHA-256 over names and contents of a model's configs and safetensors, as 64 hex digits.

    New weights under an old path have a new fingerprint.

    Args:
        folder: The model's.
        components: Its subfolders; by default the parts of the model.
    """
    model = ModelFolder(Path(folder))
    return model.fingerprint(families.of(model, str(folder)).parts if components is None else components)


def _find(
    name_or_path: str | Path, local_files_only: bool, variant: str | None, configs: str | Path | None = None
) -> tuple[ModelFolder, families.Family]:
    name = str(name_or_path).strip() if name_or_path is not None else ""
    if name in ("", "???"):
        example = MOVED["runwayml/stable-diffusion-v1-5"]
        raise ModelError(
            f"is not set; give a model folder in diffusers' format or a model id such as {example}", "name_or_path"
        )
    path = find(name)
    if not os.path.exists(path):
        if not looks_like_id(name):
            raise ModelError(
                f"the path {name!r} does not exist; give a folder in diffusers' format, or a {' or '.join(ENDS)} file"
            )
        path = snapshot(name, local_files_only, variant)
    if os.path.isfile(path):
        folder = _single(path, configs, local_files_only, variant)
    elif configs is not None:
        raise ModelError(f"is for a model in one file, and {name!r} is a folder; leave it out", KEY)
    else:
        folder = ModelFolder(path, variant)
    check_files(folder.path)
    return folder, families.of(folder, name)


def _single(file: Path, configs: str | Path | None, local_files_only: bool, variant: str | None) -> SingleFile:
    """The model of one file, with the configs of a folder or hub id, or those that diffusers takes for its weights."""
    check_name(file)
    with quiet():
        name = str(configs or usual_configs(file))
    path = find(name)
    if not os.path.isdir(path):
        if not looks_like_id(name):
            raise ModelError(f"is {name!r}, which is no folder; give one in diffusers' format", KEY)
        try:
            path = snapshot(name, local_files_only, variant, weights=False)
        except ModelError as error:
            missing = "is not in the local hub cache and could not be downloaded; give a folder in diffusers' format"
            guess = f"is not set, {file} has weights alone, and {name}, whose configs and tokenizers suit it, {missing}"
            named = f"is {name!r}, which is no folder here, and as a model id it {missing}"
            raise ModelError(f"{named if configs else guess} that has them", KEY) from error
    if not (path / "model_index.json").is_file():
        raise ModelError(f"is {name!r}, which is no model's folder (it has no model_index.json); give a whole one", KEY)
    return SingleFile(path, variant, file=file)


def _autoencoder(name: str | Path) -> Path:
    path = find(str(name))
    if not os.path.isdir(path):
        raise ModelError(f"is {str(name)!r}, which is no folder; give the one that save_pretrained wrote", "vae")
    return path
