"""CLIP text embeddings, and checks of a prompt."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from .libraries import quiet

SMALL_VOCABULARY = 5000


class TextEncoder:
    """A tokenizer and a frozen text encoder, which is read at its first use.

    It is no nn.Module, so that no owner's checkpoint holds the weights.

    Args:
        tokenizer: One of transformers.
        max_tokens: Length T of every embedding, start and end mark included.
        load_network: () -> the encoder.
        fingerprint: () -> a text that changes with what an embedding depends on.
        spelled: Prompts -> prompts in which a word of several embeddings is as many tokens.
    """

    def __init__(
        self,
        tokenizer: Any,
        max_tokens: int,
        load_network: Callable[[], nn.Module],
        fingerprint: Callable[[], str] = str,
        spelled: Callable[[list[str]], list[str]] = list,
    ):
        self.tokenizer, self.max_tokens, self._load_network = tokenizer, max_tokens, load_network
        self.fingerprint, self._spelled = fingerprint, spelled

    @functools.cached_property
    def network(self) -> Any:
        """The encoder."""
        return self._load_network()

    def release(self) -> None:
        """Frees the encoder's memory; it is read again when it is needed."""
        self.__dict__.pop("network", None)

    def embed(self, prompts: list[str]) -> Tensor:
        """Last hidden states [B, T, D] of B prompts, padded or cut to T tokens, in the encoder's dtype."""
        options = {"padding": "max_length", "truncation": True, "max_length": self.max_tokens, "return_tensors": "pt"}
        tokens = self.tokenizer(self._spelled(prompts), **options)
        device = self.network.device
        masked = getattr(self.network.config, "use_attention_mask", False)
        mask = tokens.attention_mask.to(device) if masked else None
        with torch.no_grad():
            return self.network(tokens.input_ids.to(device), attention_mask=mask)[0]

    def tokens_cut(self, prompt: str) -> int:
        """Number of tokens of `prompt` that do not fit and are ignored."""
        marks = 2
        with quiet():  # a long prompt makes the tokenizer warn of errors that embed() does not run into
            pieces = self.tokenizer.tokenize(*self._spelled([prompt]))
        return max(0, len(pieces) + marks - self.max_tokens)

    def unknown_words(self, prompt: str) -> list[str]:
        """Words of `prompt` that are not in the model's vocabulary.

        A small vocabulary, made from the training captions, has one token for each of their words. A large one (CLIP's
        49,408 tokens) builds rare words from pieces; a word that it spells letter by letter is not in it.
        """
        unknown, small = self.tokenizer.unk_token_id, len(self.tokenizer) < SMALL_VOCABULARY

        def strange(word: str) -> bool:
            pieces = self.tokenizer.convert_tokens_to_ids(self.tokenizer.tokenize(word))
            return unknown in pieces or len(pieces) >= (2 if small else len(word))

        for token in self.tokenizer.get_added_vocab():  # such as <cat-toy>, which is one token and no two words
            prompt = prompt.replace(token, " ")
        return [w for w in dict.fromkeys(re.findall(r"[^\W\d_]{2,}", prompt.lower())) if strange(w)]


def cautions(encoder: TextEncoder, prompt: str, others: list[str], where: str) -> list[str]:
    """Sentences about what an encoder cannot read.

    Args:
        encoder: The encoder.
        prompt: The prompt.
        others: Its wordings by view, and the negative prompt.
        where: The prompt's place in the config.
    """
    said = []
    longest = max([*others, prompt], key=encoder.tokens_cut)
    if cut := encoder.tokens_cut(longest):
        said.append(
            f"the prompt [{longest}] is longer than the model's {encoder.max_tokens} tokens, its last {cut} are "
            f"ignored: shorten {where}"
        )
    if unknown := encoder.unknown_words(prompt):
        lacking = " and ".join(repr(word) for word in unknown)
        said.append(f"the model's vocabulary lacks {lacking}, so it cannot read them; choose other words for {where}")
    return said
