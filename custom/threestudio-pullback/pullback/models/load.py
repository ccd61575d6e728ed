"""Load a Stable-Diffusion-format model folder, component by component."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from ..denoiser import PREDICTION_TYPES, VPSchedule
from ..errors import UserError
from .diffusion import DiffusionModel
from .folder import CLASSES, CONFIG_PATH, WEIGHT_STEMS, fingerprint, first_sentence, missing_package, read_json, resolve
from .text import TextEncoder


def load(
    name_or_path: str | Path,
    config_path: str = CONFIG_PATH,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
    local_files_only: bool = False,
    variant: str | None = None,
) -> DiffusionModel:
    """Load a Stable Diffusion model (epsilon, v or x0 prediction) as a frozen `DiffusionModel`.

    name_or_path: a folder in diffusers' format, or a hub id, looked for in the local cache first and
    downloaded unless ``local_files_only``. config_path: the config key that error messages name. device:
    default CPU. dtype: of the networks, default float32. variant: file variant such as "fp16"; by itself the
    plain files are taken, and the fp16 ones only where there are no others. Weights are read from safetensors
    only.
    Raises UserError, one sentence naming ``config_path``, for whatever keeps the model from loading.
    """
    folder = resolve(name_or_path, config_path, local_files_only, variant)
    device, dtype = torch.device(device or "cpu"), dtype or torch.float32
    schedule, prediction_type = _schedule(folder, config_path)
    unet = _network(folder, "unet", config_path, variant, dtype).to(device)
    vae = _network(folder, "vae", config_path, variant, dtype).to(device)
    _check_fit(folder, unet, vae, config_path)
    text = _text_encoder(folder, config_path, variant, device, dtype)
    content = functools.partial(fingerprint, folder)
    return DiffusionModel(unet, vae, text, schedule, prediction_type, content)


def load_text_encoder(
    name_or_path: str | Path,
    config_path: str = CONFIG_PATH,
    device: torch.device | str | None = None,
    local_files_only: bool = False,
    variant: str | None = None,
) -> TextEncoder:
    """Tokenizer and text encoder (float32) alone. Arguments and errors as for `load`."""
    folder = resolve(name_or_path, config_path, local_files_only, variant)
    return _text_encoder(folder, config_path, variant, torch.device(device or "cpu"), torch.float32)


def _text_encoder(
    folder: Path, config_path: str, variant: str | None, device: torch.device, dtype: torch.dtype
) -> TextEncoder:
    has = {file.name for file in (folder / "tokenizer").glob("*")}
    if "tokenizer.json" not in has and not {"vocab.json", "merges.txt"} <= has:
        raise UserError(
            f"`{config_path}`: {folder / 'tokenizer'} has no vocabulary (vocab.json and merges.txt); copy or "
            "download the model again."
        )
    with _quiet(), _readable(folder / "tokenizer", config_path):
        from transformers import CLIPTokenizer

        tokenizer = CLIPTokenizer.from_pretrained(str(folder), subfolder="tokenizer", local_files_only=True)
    positions = int(_text_config(folder, config_path).get("max_position_embeddings", 77))

    def load_network() -> torch.nn.Module:
        return _network(folder, "text_encoder", config_path, variant).to(device, dtype)

    return TextEncoder(tokenizer, min(int(tokenizer.model_max_length), positions), load_network)


def _text_config(folder: Path, config_path: str) -> dict[str, Any]:
    file = folder / "text_encoder" / "config.json"
    return read_json(file, config_path, f"{folder / 'text_encoder'} is incomplete")


def _network(
    folder: Path, part: str, config_path: str, variant: str | None, dtype: torch.dtype | None = None
) -> torch.nn.Module:
    """One frozen network in evaluation mode, refused when its file lacks weights."""
    options: dict[str, Any] = {"variant": _variant(folder, part, config_path, variant)}
    config = read_json(folder / part / "config.json", config_path, f"{folder / part} is incomplete")
    with _quiet(), _readable(folder / part, config_path):
        if part == "text_encoder":
            from transformers import CLIPTextModel as Network
        else:
            import diffusers

            Network = getattr(diffusers, CLASSES[part])
            options |= {"torch_dtype": dtype, "use_safetensors": True}
            if config.get("_class_name", CLASSES[part]) != CLASSES[part]:
                raise UserError(
                    f"`{config_path}`: {folder / part} holds a {config['_class_name']}, which is not "
                    "supported; use a Stable Diffusion 1.x or 2.x model."
                )
        loaded: Any = Network.from_pretrained(
            str(folder), subfolder=part, local_files_only=True, output_loading_info=True, **options
        )
    network, info = loaded
    # position_ids were saved by old versions and are computed by new ones
    missing = sorted(key for key in info["missing_keys"] if not key.endswith("position_ids"))
    if missing:
        raise UserError(
            f"`{config_path}`: {folder / part} lacks {len(missing)} weights (the first is {missing[0]}); copy "
            "or download the model again."
        )
    return network.eval().requires_grad_(False)


def _variant(folder: Path, part: str, config_path: str, wanted: str | None) -> str | None:
    stem = WEIGHT_STEMS[part]
    for variant in [wanted] if wanted else [None, "fp16"]:
        mark = f".{variant}" if variant else ""
        names = f"{stem}{mark}.safetensors", f"{stem}.safetensors.index{mark}.json"
        if any((folder / part / name).is_file() for name in names):
            return variant
    mark = f".{wanted}" if wanted else ""
    pickled = any((folder / part).glob("*.bin"))
    raise UserError(
        f"`{config_path}`: {folder / part} has no {stem}{mark}.safetensors"
        + (", only pickled .bin weights, not loaded because they can run code" if pickled else "")
        + "; save the model again with save_pretrained(..., safe_serialization=True)."
    )


def _check_fit(folder: Path, unet: Any, vae: Any, config_path: str) -> None:
    config, latent = unet.config, vae.config.latent_channels
    width = _text_config(folder, config_path).get("hidden_size")
    if not config.in_channels == config.out_channels == latent:
        raise UserError(
            f"`{config_path}`: the UNet of {folder} takes {config.in_channels} channels and returns "
            f"{config.out_channels}, while its VAE has {latent}, as inpainting and upscaling models do; use "
            "a text-to-image model."
        )
    if config.cross_attention_dim != width or config.class_embed_type or config.addition_embed_type:
        raise UserError(
            f"`{config_path}`: the UNet of {folder} asks for another conditioning than its text encoder's "
            f"{width}-wide embeddings; use a Stable Diffusion 1.x or 2.x model."
        )


def _schedule(folder: Path, config_path: str) -> tuple[VPSchedule, str]:
    file = folder / "scheduler" / "scheduler_config.json"
    config = read_json(file, config_path, f"{folder / 'scheduler'} is incomplete")
    prediction_type = config.get("prediction_type", "epsilon")
    if prediction_type not in PREDICTION_TYPES:
        raise UserError(
            f"`{config_path}`: {file} has prediction_type {prediction_type!r}, which is not supported; use a "
            f"model that predicts one of {', '.join(PREDICTION_TYPES)}."
        )
    with _quiet(), _readable(file, config_path):
        from diffusers import DDIMScheduler

        alphas = DDIMScheduler.from_config(config).alphas_cumprod  # type: ignore[union-attr]
    try:
        # zero terminal SNR: the last level has an infinite sigma and cannot be visited
        return VPSchedule(alphas[alphas > 0]), prediction_type
    except UserError as error:
        raise UserError(
            f"`{config_path}`: {file} describes no noise schedule ({error}); copy or download the model again."
        ) from error


@contextmanager
def _readable(place: Path, config_path: str) -> Iterator[None]:
    """Whatever a library raises while it reads `place` becomes one sentence."""
    try:
        yield
    except UserError:
        raise
    except ImportError as error:
        raise missing_package(error) from error
    except MemoryError:
        raise
    except Exception as error:  # diffusers, transformers and safetensors each raise their own
        raise UserError(
            f"`{config_path}`: {place} cannot be loaded ({type(error).__name__}: {first_sentence(error)}); copy "
            "or download the model again."
        ) from error


@contextmanager
def _quiet() -> Iterator[None]:
    """No warnings and progress bars of diffusers and transformers, whose settings are put back afterwards."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            # transformers first: importing diffusers makes it warn
            from transformers.utils import logging as first

            verbosity, bars = first.get_verbosity(), first.is_progress_bar_enabled()
            first.set_verbosity_error()
            first.disable_progress_bar()
            from diffusers.utils import logging as second
        except ImportError as error:
            raise missing_package(error) from error
        loud = second.get_verbosity()
        second.set_verbosity_error()
        try:
            yield
        finally:
            first.set_verbosity(verbosity)
            second.set_verbosity(loud)
            if bars:
                first.enable_progress_bar()
