"""MkDocs hooks of `make docs`: pages from outside docs/, links between all of them, and the API reference.

Pages link each other as files of the repository do, so that they read well there. Here a link to a page becomes a link
within the site, and a link to any other file of the repository becomes its path as code.
"""

from __future__ import annotations

import os
import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "custom" / "threestudio-pullback" / "pullback"
# a page of the site, and the file of the repository that it shows
PAGES = {
    "index.md": "README.md",
    "changelog.md": "CHANGELOG.md",
    "contributing.md": "CONTRIBUTING.md",
    "benchmarks.md": "benchmarks/README.md",
    "experiments.md": "experiments/README.md",
    "tiny-sd.md": "custom/threestudio-pullback/pullback/assets/tiny-sd/README.md",
    "tiny-mv.md": "custom/threestudio-pullback/pullback/assets/tiny-mv/README.md",
}
REFERENCE = (
    "sampling", "constraints", "noise", "fitting", "diffreps", "denoiser", "priors", "views", "baselines", "models",
    "output", "errors", "resources", "adapters", "host", "sweep", "evaluate",
)  # fmt: skip
FENCE = re.compile(r"(^```.*?^```[^\n]*$)", re.M | re.S)
LINK = re.compile(r"(!?)\[((?:[^\[\]]|\[[^\]]*\])*)\]\(([^)\s]+)\)")


def on_config(config: Any) -> Any:
    """Lists the reference's pages in the navigation."""
    pages: list[dict[str, str]] = [{"pullback": "reference/pullback.md"}]
    pages += [{name: f"reference/{name}.md"} for name in REFERENCE]
    next(section for section in config.nav if "Reference" in section)["Reference"] = pages
    return config


def on_files(files: Files, config: Any) -> Files:
    """Adds the pages that do not lie in docs/."""
    for page, source in PAGES.items():
        files.append(File.generated(config, page, content=(ROOT / source).read_text(encoding="utf-8")))
    public = "# pullback\n\n::: pullback\n    options:\n      show_submodules: false\n      show_root_heading: false\n"
    files.append(File.generated(config, "reference/pullback.md", content=public))
    for name in REFERENCE:
        content = f"# pullback.{name}\n\n::: pullback.{name}\n    options:\n      show_root_heading: false\n"
        files.append(File.generated(config, f"reference/{name}.md", content=content))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Files) -> str:
    """Turns links between files of the repository into links within the site."""
    path = page.file.src_uri
    source = PAGES.get(path, f"docs/{path}")

    def linked(match: re.Match[str]) -> str:
        picture, text, target = match.groups()
        place, hash_, anchor = target.partition("#")
        if not place or re.match(r"\w+:", target):
            return match[0]
        # through symbolic links, such as configs -> custom/threestudio-pullback/pullback/configs
        full = os.path.relpath(os.path.realpath(ROOT / posixpath.dirname(source) / place), ROOT)
        shown = next((name for name, file in PAGES.items() if file == full), None)
        if shown is None and full.startswith("docs/"):
            shown = full.removeprefix("docs/")
        if shown is None:
            return f"{text} (`{full}`)"
        return f"{picture}[{text}]({posixpath.relpath(shown, posixpath.dirname(path) or '.')}{hash_}{anchor})"

    parts = FENCE.split(markdown)
    parts[::2] = [LINK.sub(linked, part) for part in parts[::2]]
    return "".join(parts)
