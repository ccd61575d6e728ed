"""Pages that are one file: a template, its style and its script put together; they need no network."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from ..errors import UserError


def render(folder: Path, name: str, what: str, filters: Mapping[str, Callable[..., Any]], **data: Any) -> str:
    """The text of the page made of folder/name.html, .css and .js.

    The template gets `data`, `style`, `script` and `script_hash`, the script's SHA-256 for the page's content security
    policy: it runs this script and no other, even if a text of the data should come to be read as HTML.

    what: names the page in the UserError that is raised where Jinja is not installed. filters: for the template.
    """
    try:
        from jinja2 import Environment, FileSystemLoader, StrictUndefined
        from markupsafe import Markup
    except ImportError:
        raise UserError(f"{what} needs Jinja: pip install jinja2") from None
    style, script = (Markup((folder / f"{name}.{kind}").read_text(encoding="utf-8")) for kind in ("css", "js"))
    environment = Environment(
        loader=FileSystemLoader(folder), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    environment.filters |= filters
    script_hash = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return environment.get_template(f"{name}.html").render(**data, style=style, script=script, script_hash=script_hash)


def picture(file: bytes, kind: str) -> str:
    """The address of a picture that is in the page itself; kind: png, jpeg or webp."""
    return f"data:image/{kind};base64,{base64.b64encode(file).decode()}"
