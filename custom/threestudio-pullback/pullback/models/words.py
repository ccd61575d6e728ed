"""A prompt processor's words, embedded by the model's family where embeddings of Stable Diffusion do not suit it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from .embedding_cache import embedded
from .protocol import Conditioning, Prompts, cat, join
from .text import TextEncoder, cautions


class Words:
    """The output of a prompt processor (threestudio's prompt_utils) for a model that embeds prompts itself.

    Which wording a camera gets, and how Perp-Neg mixes wordings, is left to that output: it is asked with one-hot rows
    in place of embeddings, and its answer says the share of each wording.

    Args:
        utils: A dataclass with `prompt`, `prompts_vd`, embeddings and methods as threestudio's.
        table: The embeddings [2 + N,...] of prompt, negative prompt and the N words of views.
    """

    def __init__(self, utils: Any, table: Prompts):
        rows = torch.eye(len(table))[:, None]
        views = rows[2:]
        self._table, self.use_perp_neg = table, utils.use_perp_neg
        self._utils = dataclasses.replace(
            utils,
            text_embeddings=rows[:1],
            uncond_text_embeddings=rows[1:2],
            text_embeddings_vd=views,
            uncond_text_embeddings_vd=rows[1:2].expand_as(views),
        )

    def get_text_embeddings(self, *cameras: Any) -> Conditioning:
        """As threestudio's: conditional ones first, then unconditional."""
        return self._mixed(self._utils.get_text_embeddings(*_on_cpu(cameras)))

    def get_text_embeddings_perp_neg(self, *cameras: Any) -> tuple[Conditioning, Tensor]:
        """As threestudio's; the mask of a mixture is true where that of a part is."""
        shares, weights = self._utils.get_text_embeddings_perp_neg(*_on_cpu(cameras))
        return self._mixed(shares), weights

    def _mixed(self, shares: Tensor) -> Conditioning:
        def mix(rows: Tensor) -> Tensor:
            share = shares[:, 0].to(rows.device)
            if rows.is_floating_point():
                return torch.tensordot(share.to(rows.dtype), rows, 1)
            return (torch.tensordot((share > 0).float(), rows.float(), 1) > 0).to(rows.dtype)

        return join(mix, self._table)


class WordsOf:
    """The text that each prompt processor's output means to a model; each is embedded once, and cached on disk.

    Args:
        model: A `LatentModel`.
        warn: See `embedded`.
    """

    def __init__(self, model: Any, warn: Callable[..., None]):
        self.model, self._warn = model, warn
        self._known: dict[tuple[str, ...], Prompts] = {}

    def __call__(self, utils: Any, negative_prompt: Callable[[], str]) -> Any:
        """The output itself, or its `Words` for a model that embeds prompts itself.

        Args:
            utils: The prompt processor's output.
            negative_prompt: () -> the negative prompt, where the output does not have it.
        """
        if not getattr(self.model, "embeds_prompts", False):
            return utils
        negative = getattr(utils, "negative_prompt", None)
        words = (utils.prompt, negative_prompt() if negative is None else negative, *utils.prompts_vd)
        if words not in self._known:
            self._known[words] = self._embedded(*words)
        return Words(utils, self._known[words])

    def _embedded(self, prompt: str, negative: str, *views: str) -> Prompts:
        model, content = self.model, self.model.text.fingerprint()
        if isinstance(model.text, TextEncoder):  # the prompt processor's own has been asked about other words
            for sentence in cautions(model.text, prompt, [negative, *views], "system.prompt_processor.prompt"):
                self._warn(sentence)
        texts = embedded([prompt, *views], lambda p: model.encode_prompt([p]).to("cpu"), content, self._warn)
        negatively = getattr(model, "encode_negative_prompt", model.encode_prompt)
        other = embedded([negative], lambda p: negatively([p]).to("cpu"), f"{content} negative", self._warn)
        model.text.release()
        parts = (texts[prompt], other[negative], *(texts[view] for view in views))
        return cat(*parts).to(model.device)


def _on_cpu(values: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(value.cpu() if isinstance(value, Tensor) else value for value in values)
