"""Names of files and folders from texts that people write, such as prompts."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

READABLE = 60
"""Most characters of the readable part of a slug."""


def slug(text: str, content: str | None = None) -> str:
    """A text as a file name: its ASCII letters and digits, in lower case, and a checksum of all of it.

    Other texts have other names, whatever script and punctuation they differ in, also where a file system does not tell
    capitals apart. The name has at most 69 characters, all of them ASCII.

    Args:
        text: The text.
        content: What the checksum is of, in place of the text.
    """
    readable = re.sub(r"[^a-z0-9]+", "-", text.lower())[:READABLE].strip("-")
    return "-".join(filter(None, (readable, _digest(text if content is None else content))))


def plain(text: str, pattern: str = r"[/\\\0\n\r\t]|::", most: int = 200) -> str:
    """A text as one file name that stays as it is where it can, with a checksum where it cannot.

    Args:
        text: The text.
        pattern: What no name may have; "_" takes its place.
        most: Bytes of the longest name, in UTF-8.
    """
    clean = re.sub(pattern, "_", text)
    if clean == text and len(text.encode("utf-8", "surrogatepass")) <= most:
        return text
    return f"{clean.encode('utf-8', 'ignore')[: most - 9].decode(errors='ignore')}-{_digest(text)}"


def earlier(file: Path, old: Path) -> Path:
    """The file, or the one that an earlier version wrote in its place, where only that is there."""
    return old if old.exists() and not file.exists() else file


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:8]
