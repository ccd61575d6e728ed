"""What helps where a part of transformers cannot be read: another version, if a later one saved it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .model_error import AGAIN


def remedy(config: Mapping[str, Any]) -> str:
    """What helps where a text encoder or its tokenizer cannot be read.

    Transformers reads what its earlier versions saved, but not all that a later one did: 5 saves CLIP under other names
    than 4, and tokenizers as `tokenizer.json` alone.

    Args:
        config: The encoder's.
    """
    import transformers

    saved, installed = str(config.get("transformers_version")), transformers.__version__
    if _major(saved) > _major(installed):
        return f"transformers {saved} saved it, and {installed} is installed; run `pip install --upgrade transformers`"
    return AGAIN


def _major(version: str) -> int:
    number = version.partition(".")[0]
    return int(number) if number.isdecimal() else 0
