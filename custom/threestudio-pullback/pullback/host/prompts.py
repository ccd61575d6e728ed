"""`stable-diffusion-prompt-processor`: embeds a prompt, with words for each side a camera sees, and caches it."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .. import models
from ..errors import ConfigError
from ..models.embedding_cache import CACHE, embedded
from ..models.text import cautions
from .base import BaseObject
from .config import config_path
from .embeddings import DIRECTIONS, PromptUtils
from .registry import info, register, warn

__all__ = ["CACHE", "StableDiffusionPromptProcessor", "looked_up", "stripped"]

EXAMPLE = 'system.prompt_processor.prompt="a red cube"'
LIBRARY = Path("load/prompt_library.json")  # in a checkout of threestudio


def stripped(prompt: str) -> str:
    """A prompt without space around it, and without a byte-order mark, which a tokenizer would read as a word."""
    return prompt.strip().strip("\ufeff").strip()


def looked_up(prompt: str) -> str:
    """The prompt, `stripped`; for "lib:cowboy_boots" the one of threestudio's library that has all of these words.

    Raises:
        ConfigError: The library is not in this folder, or not exactly one of its prompts has the words.
    """
    prompt = stripped(prompt)
    if not prompt.startswith("lib:"):
        return prompt
    words = prompt[4:].lower().split("_")
    try:
        texts = json.loads(LIBRARY.read_text(encoding="utf-8-sig"))["dreamfusion"]
        found = [text for text in texts if all(word in text.lower() for word in words)]
    except FileNotFoundError:
        remedy = "run in threestudio's folder, or write the prompt out"
        raise ConfigError("prompt", f"is {prompt!r}, but threestudio's {LIBRARY} is not here; {remedy}") from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ConfigError("prompt", f"is {prompt!r}, but {LIBRARY} cannot be read; write the prompt out") from error
    if len(found) != 1:
        some = f", such as {found[0]!r} and {found[1]!r}" if found else ""
        what = f"is {prompt!r}, and {len(found) or 'no'} prompts of {LIBRARY} have {' and '.join(words)}{some}"
        raise ConfigError("prompt", f"{what}; give words that one of them has")
    return found[0]


@register("stable-diffusion-prompt-processor")
class StableDiffusionPromptProcessor(BaseObject):
    """Embeds the prompt and its four view-dependent wordings with the model's own text encoder.

    The words of a model with several encoders are embedded by its family, see `models.Words`.
    The encoder is released afterwards. The cache on disk is keyed by the content of tokenizer and text encoder, so that
    other weights under the same path have other entries.
    """

    role = "prompt_processor"

    @dataclass
    class Config(BaseObject.Config):
        prompt: str = "???"
        negative_prompt: str = ""
        pretrained_model_name_or_path: str = "stable-diffusion-v1-5/stable-diffusion-v1-5"

        view_dependent_prompt_front: bool = False  # "front view of X" in place of "X, front view"
        front_threshold: float = 45.0  # degrees
        back_threshold: float = 45.0
        overhead_threshold: float = 60.0
        prompt_front: str | None = None  # replace the automatic wording
        prompt_side: str | None = None
        prompt_back: str | None = None
        prompt_overhead: str | None = None

        use_cache: bool = True
        spawn: bool = True  # without effect: nothing here needs a process of its own

        use_perp_neg: bool = False
        perp_neg_f_sb: tuple[float, float, float] = (1, 0.5, -0.606)
        perp_neg_f_fsb: tuple[float, float, float] = (1, 0.5, +0.967)
        perp_neg_f_fs: tuple[float, float, float] = (4, 0.5, -2.426)
        perp_neg_f_sf: tuple[float, float, float] = (4, 0.5, -2.426)

        def __post_init__(self) -> None:
            if self.prompt == "???":
                raise ConfigError("prompt", f"is not set; say what to make, for example {EXAMPLE}")
            if not stripped(self.prompt):
                raise ConfigError("prompt", f"is empty; say what to make, for example {EXAMPLE}")
            for name in ("front_threshold", "back_threshold"):
                if not 0 <= getattr(self, name) <= 180:
                    raise ConfigError(name, f"is {getattr(self, name):g}; give degrees from 0 to 180")
            if self.prompt != "???":
                looked_up(self.prompt)

    def configure(self) -> None:
        """Embeds the prompt; warns where the model cannot read all of it."""
        cfg = self.cfg
        self.prompt: str = looked_up(cfg.prompt)
        self.negative_prompt: str = stripped(cfg.negative_prompt)
        self.prompts_vd = [
            stripped(cfg[f"prompt_{name}"] or "") or _worded(self.prompt, name, cfg.view_dependent_prompt_front)
            for name in DIRECTIONS
        ]
        info(
            "prompt [%s]; with `view_dependent_prompting` %s", self.prompt, " ".join(f"[{p}]" for p in self.prompts_vd)
        )
        self._utils = self._embed()

    def __call__(self) -> PromptUtils:
        """The embeddings that a guidance takes."""
        return self._utils

    def _embed(self) -> PromptUtils:
        cfg = self.cfg
        prompts = [self.prompt, self.negative_prompt, *self.prompts_vd]
        with models.config_key(_path(cfg, "pretrained_model_name_or_path")):
            folder = models.resolve(cfg.pretrained_model_name_or_path)
            if models.embeds_prompts(folder):
                table: dict[str, Any] = dict.fromkeys(prompts, torch.zeros(1, 1, 1))  # the guidance embeds the words
            else:
                encoder = models.load_text_encoder(folder, self.device)
                read = re.sub(r"<[^<>\s]+>", " ", self.prompt)  # a learned word such as <cat-toy> is the guidance's
                for sentence in cautions(encoder, read, prompts, _path(cfg, "prompt")):
                    warn("%s", sentence)
                content = models.fingerprint(folder, models.TEXT_COMPONENTS) if cfg.use_cache else None
                table = embedded(prompts, lambda prompt: encoder.embed([prompt]).float().cpu(), content, warn)

        def stacked(prompts: list[str]) -> Tensor:
            return torch.cat([table[prompt] for prompt in prompts]).to(self.device)

        return PromptUtils(
            prompt=self.prompt,
            negative_prompt=self.negative_prompt,
            prompts_vd=self.prompts_vd,
            text_embeddings=stacked([self.prompt]),
            uncond_text_embeddings=stacked([self.negative_prompt]),
            text_embeddings_vd=stacked(self.prompts_vd),
            uncond_text_embeddings_vd=stacked([self.negative_prompt] * len(DIRECTIONS)),
            front_threshold=cfg.front_threshold,
            back_threshold=cfg.back_threshold,
            overhead_threshold=cfg.overhead_threshold,
            use_perp_neg=cfg.use_perp_neg,
            perp_neg_decays={name: tuple(cfg[f"perp_neg_f_{name}"]) for name in ("sb", "fsb", "fs", "sf")},
        )


def _worded(prompt: str, direction: str, in_front: bool) -> str:
    if in_front:
        return f"{'backside' if direction == 'back' else direction} view of {prompt}"
    return f"{prompt}, {direction} view"


def _path(cfg: Any, key: str) -> str:
    """The key's full path, also for a block that stands alone."""
    path = config_path(cfg, key)
    return path if "." in path else f"system.prompt_processor.{key}"
