"""Features of pictures, by CLIP or by the studio's own classifier."""

from __future__ import annotations

import functools
import json
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from ...errors import UserError, check_finite, unfit_package
from ...output.pictures import to_bytes
from ..studio.classifier import StudioClassifier, load_studio

__all__ = ["Clip", "Features", "StudioClassifier", "load_clip", "load_studio"]


class Features(Protocol):
    """Pictures [B,3,H,W] in [-1,1] as vectors [B,D] of float32; the same picture always has the same vector."""

    name: str

    def images(self, pictures: Tensor) -> Tensor:
        """The vectors [B,D] of pictures [B,3,H,W] in [-1,1]."""
        ...


class Clip:
    """CLIP (Radford et al. 2021) from a local folder in transformers' format: `Features` with texts.

    Features are the model's projections, of any length; the measures normalise them where necessary.

    Attributes:
        scale: The model's factor of cosines before a softmax (100 in all published models).
    """

    def __init__(self, model: Any, processor: Any, tokenizer: Any, name: str):
        self.model, self.name, self._processor, self._tokenizer = model, name, processor, tokenizer
        self.scale = float(model.logit_scale.exp())

    @torch.no_grad()
    def images(self, pictures: Tensor) -> Tensor:
        """The features [B,D] of pictures [B,3,H,W] in [-1,1], on the model's device.

        Pictures are rounded to 8 bits, like their files, then resized, cropped and normalised by the folder's rules.

        Raises:
            NonFiniteError: A picture has a NaN or infinity.
        """
        features = []
        for part in to_bytes(check_finite(pictures, "the picture")).cpu().split(32):
            pixels = self._processor(images=list(part.movedim(1, -1).numpy()), return_tensors="pt")["pixel_values"]
            features.append(_projected(self.model.get_image_features(pixel_values=pixels.to(self.model.device))))
        return torch.cat(features)

    @torch.no_grad()
    def texts(self, prompts: list[str]) -> Tensor:
        """The features [B,D] of B prompts, on the model's device; a prompt that is too long is cut."""
        longest = self.model.config.text_config.max_position_embeddings
        tokens = self._tokenizer(prompts, padding=True, truncation=True, max_length=longest, return_tensors="pt")
        return _projected(self.model.get_text_features(**tokens.to(self.model.device)))


def _projected(output: Any) -> Tensor:
    # transformers 5 returns the tower's whole output, its predecessors the projection alone
    return output if isinstance(output, Tensor) else output.pooler_output


@functools.cache
def load_clip(folder: str | Path | None, config_path: str = "--clip", device: torch.device | str = "cpu") -> Clip:
    """Loads CLIP from a folder that save_pretrained of CLIPModel and CLIPProcessor wrote; nothing is downloaded.

    A folder is read once in a process.

    Args:
        folder: The folder; None, "" and "???" count as missing.
        config_path: The option or config key that messages name.
        device: Where the model runs.

    Raises:
        UserError: The folder is missing, incomplete, of another model, or without safetensors.
    """
    if folder is None or str(folder).strip() in ("", "???"):
        raise UserError(
            f"`{config_path}` is not set; give a folder with a CLIP model in transformers' format (fetch one with "
            "`hf download openai/clip-vit-base-patch16`)"
        )
    folder = Path(os.path.expanduser(folder))
    if problem := _problem(folder):
        raise UserError(f"`{config_path}`: {problem}")
    with _one_sentence(folder, config_path):
        from transformers import CLIPModel, CLIPTokenizer

        try:
            from transformers import CLIPImageProcessorPil as Processor  # the one that needs no torchvision
        except ImportError:  # transformers 4 has no other
            from transformers import CLIPImageProcessor as Processor
        local: dict[str, Any] = {"local_files_only": True}
        loaded: Any = CLIPModel.from_pretrained(str(folder), use_safetensors=True, output_loading_info=True, **local)
        model, info = loaded
        processor, tokenizer = (kind.from_pretrained(str(folder), **local) for kind in (Processor, CLIPTokenizer))
    # position_ids were saved by old versions and are computed by new ones
    missing = sorted(key for key in info["missing_keys"] if not key.endswith("position_ids"))
    if missing:
        lack = f"{folder} lacks {len(missing)} weights (the first is {missing[0]})"
        raise UserError(f"`{config_path}`: {lack}; copy or download the model again")
    return Clip(
        model.to(device, torch.float32).eval().requires_grad_(False), processor, tokenizer, f"CLIP {folder.name}"
    )


def _problem(folder: Path) -> str | None:
    """What the folder lacks and what to do; None if all files are there. It imports nothing heavy."""
    if not os.path.isdir(folder):
        return (f"there is no folder {str(folder)!r}; give the path of a CLIP model in transformers' format, which is "
                "not downloaded by itself")  # fmt: skip
    files = {file.name for file in folder.iterdir()}
    parts = {
        "config.json": {"config.json"} <= files,
        "preprocessor_config.json": bool({"preprocessor_config.json", "processor_config.json"} & files),
        "tokenizer.json (or vocab.json and merges.txt)": "tokenizer.json" in files
        or {"vocab.json", "merges.txt"} <= files,
        "model.safetensors": bool({"model.safetensors", "model.safetensors.index.json"} & files),
    }
    absent = [name for name, there in parts.items() if not there]
    if absent:
        pickled = "model.safetensors" in absent and any(name.endswith(".bin") for name in files)
        why = " (its pickled .bin weights are not loaded because they can run code)" if pickled else ""
        return (f"the CLIP folder {folder} has no {' and no '.join(absent)}{why}; save the model and its processor "
                "there again with save_pretrained")  # fmt: skip
    try:
        kind = json.loads((folder / "config.json").read_text(encoding="utf-8")).get("model_type")
    except (OSError, ValueError, AttributeError):
        kind = "unreadable"
    if kind != "clip":
        return (f"{folder / 'config.json'} is not that of a CLIP model (model_type {kind!r}); give a folder with image "
                "and text towers, such as a copy of openai/clip-vit-base-patch16")  # fmt: skip
    return None


@contextmanager
def _one_sentence(folder: Path, config_path: str) -> Iterator[None]:
    """Hides warnings and progress bars; any error of the libraries becomes one sentence."""
    try:
        from transformers.utils import logging
    except ImportError as error:
        absent = f"`{config_path}`: CLIP needs the package {error.name}, which is not installed"
        remedy = "pip install transformers safetensors pillow"
        raise UserError(unfit_package(error) or f"{absent}; run {remedy}") from error
    verbosity, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except Exception as error:
        if sentence := unfit_package(error):
            raise UserError(sentence) from error
        why = f"{type(error).__name__}: {' '.join(str(error).split())[:200].rstrip('.')}"
        text = f"the CLIP model in {folder} cannot be loaded ({why}); copy or download it again"
        raise UserError(f"`{config_path}`: {text}") from error
    finally:
        logging.set_verbosity(verbosity)
        if bars:
            logging.enable_progress_bar()
