"""Pages that are one file: a template, its style and its script put together; they need no network."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..errors import UserError

HERE = Path(__file__).parent
BASE = HERE / "base.css"
"""The style of all pages but the panorama's."""
WEB = HERE / "web"
"""Scripts of others, which tools/vendor_web.py takes from npm."""


def render(
    folder: Path,
    name: str,
    what: str,
    filters: Mapping[str, Callable[..., Any]],
    styles: Sequence[Path] = (),
    scripts: Sequence[Path] = (),
    **data: Any,
) -> str:
    """Returns the text of a page; its template is folder/name.html, which extends webpage.html.

    The template gets `data`, `style`, `scripts`, and their SHA-256, `script_hashes`, for the content security policy:
    the page runs these scripts and no other, even if a text of the data were read as HTML.

    Args:
        folder: of the template, the style and the script.
        name: of these three, without the ending.
        what: names the page in the error.
        filters: for the template.
        styles: files that come before folder/name.css.
        scripts: files that come before folder/name.js.
        data: for the template.

    Raises:
        UserError: Jinja is not installed.
    """
    try:
        from jinja2 import Environment, FileSystemLoader, StrictUndefined
        from markupsafe import Markup
    except ImportError:
        raise UserError(f"{what} needs Jinja: pip install jinja2") from None
    style = Markup("\n").join(Markup(file.read_text(encoding="utf-8")) for file in [*styles, folder / f"{name}.css"])
    texts = [Markup(file.read_text(encoding="utf-8")) for file in [*scripts, folder / f"{name}.js"]]
    environment = Environment(
        loader=FileSystemLoader([folder, HERE]), autoescape=True, undefined=StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    environment.filters |= filters
    hashes = [base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in texts]
    return environment.get_template(f"{name}.html").render(**data, style=style, scripts=texts, script_hashes=hashes)


def picture(file: bytes, kind: str) -> str:
    """The address of a picture that is in the page itself; kind: png, jpeg or webp."""
    return address(file, f"image/{kind}")


def address(file: bytes, media_type: str) -> str:
    """The address of a file that is in the page itself."""
    return f"data:{media_type};base64,{base64.b64encode(file).decode()}"
