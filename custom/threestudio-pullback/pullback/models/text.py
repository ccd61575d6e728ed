"""CLIP text embeddings, with the checks a prompt needs."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn


class TextEncoder:
    """A tokenizer and a frozen text encoder, which is read when first used.

    No nn.Module, so that no owner's checkpoint holds the weights.
    max_tokens: length T of every embedding, start and end mark included.
    """

    def __init__(self, tokenizer: Any, max_tokens: int, load_network: Callable[[], nn.Module]):
        self.tokenizer, self.max_tokens, self._load_network = tokenizer, max_tokens, load_network

    @functools.cached_property
    def network(self) -> Any:
        return self._load_network()

    def embed(self, prompts: list[str]) -> Tensor:
        """Last hidden states [B, T, D] of B prompts, padded or cut to T tokens, in the encoder's dtype."""
        tokens = self.tokenizer(
            prompts, padding="max_length", truncation=True, max_length=self.max_tokens, return_tensors="pt"
        )
        device = self.network.device
        masked = getattr(self.network.config, "use_attention_mask", False)
        mask = tokens.attention_mask.to(device) if masked else None
        with torch.no_grad():
            return self.network(tokens.input_ids.to(device), attention_mask=mask)[0]

    def tokens_cut(self, prompt: str) -> int:
        """How many tokens of ``prompt`` do not fit and are ignored."""
        marks = 2
        return max(0, len(self.tokenizer.tokenize(prompt)) + marks - self.max_tokens)

    def unknown_words(self, prompt: str) -> list[str]:
        """Words the tokenizer spells letter by letter, or not at all: the model has no idea of them."""
        unknown = self.tokenizer.unk_token_id

        def pieces(word: str) -> list[int]:
            return self.tokenizer.convert_tokens_to_ids(self.tokenizer.tokenize(word))

        words = dict.fromkeys(re.findall(r"[^\W\d_]{2,}", prompt.lower()))
        return [w for w in words if unknown in (ids := pieces(w)) or len(ids) >= len(w)]
