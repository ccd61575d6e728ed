"""Pages that are one file: a template, its style and its script put together; they need no network."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ..errors import UserError


def render(folder: Path, name: str, what: str, filters: Mapping[str, Callable[..., Any]], **data: Any) -> str:
    """Returns the text of a page; its template is folder/name.html, which extends webpage.html.

    The template gets `data`, `style` (name.css), `script` (name.js) and `script_hash`, the script's SHA-256 for the
    content security policy: the page runs this script and no other, even if a text of the data were read as HTML.

    Args:
        folder: of the template, the style and the script.
        name: of these three, without the ending.
        what: names the page in the error.
        filters: for the template.
        data: for the template.

    Raises:
        UserError: Jinja is not installed.
    """
    try:
        from jinja2 import Environment, FileSystemLoader, StrictUndefined
        from markupsafe import Markup
    except ImportError:
        raise UserError(f"{what} needs Jinja: pip install jinja2") from None
    style, script = (Markup((folder / f"{name}.{kind}").read_text(encoding="utf-8")) for kind in ("css", "js"))
    environment = Environment(
        loader=FileSystemLoader([folder, Path(__file__).parent]), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    environment.filters |= filters
    script_hash = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return environment.get_template(f"{name}.html").render(**data, style=style, script=script, script_hash=script_hash)


def picture(file: bytes, kind: str) -> str:
    """The address of a picture that is in the page itself; kind: png, jpeg or webp."""
    return f"data:image/{kind};base64,{base64.b64encode(file).decode()}"
