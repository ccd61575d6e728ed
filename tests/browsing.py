"""Pages in headless Chromium, with axe-core from npm: what tests of pages share."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "tools"))
import vendor_web

BROWSERS = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")
DRAWN = ("--no-sandbox", "--enable-unsafe-swiftshader")  # CI runs as root, and has no GPU


class Unavailable(Exception):
    """What is not there, and how to get it."""


def npm() -> Path:
    """The folder node_modules with what tools/web/package-lock.json names, in a cache outside of the checkout."""
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "threestudio-pullback"
    key = hashlib.sha256((vendor_web.WEB / "package-lock.json").read_bytes()).hexdigest()[:16]
    found = cache / f"npm-{key}"
    if not found.is_dir():
        if shutil.which("npm") is None:
            raise Unavailable("no npm: apt-get install npm")
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache) as folder:  # whole or not at all, also beside another process
            part = Path(folder) / "part"
            part.mkdir()
            try:
                vendor_web.install(part)
            except subprocess.SubprocessError as e:
                raise Unavailable(f"npm cannot install what tools/web/package-lock.json names: {e}") from e
            with contextlib.suppress(OSError):  # another one was there first
                part.rename(found)
    return found / "node_modules"


@contextlib.contextmanager
def chromium(*options: str) -> Iterator[Any]:
    """A browser of Playwright; raises Unavailable where there is none, or no Playwright."""
    found = next((path for name in BROWSERS if (path := shutil.which(name))), None)
    if not found:
        raise Unavailable("no Chromium: apt-get install chromium-headless-shell")
    try:
        from playwright import sync_api
    except ImportError as e:
        raise Unavailable("no Playwright: pip install playwright") from e
    with sync_api.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=found, args=[*(options or DRAWN)])
        yield browser
        browser.close()


def watch(tab: Any, own: str = "") -> list[str]:
    """The errors of a tab's console from now on, and the addresses that it asks for; its own server's aside."""
    told: list[str] = []
    inside = ("file:", "data:", "blob:", *filter(None, [own]))
    tab.on("console", lambda message: told.append(message.text) if message.type == "error" else None)
    tab.on("pageerror", lambda error: told.append(str(error)))
    tab.on("request", lambda request: None if request.url.startswith(inside) else told.append(request.url))
    return told


def violations(tab: Any) -> list[str]:
    """What axe-core finds wrong in a tab's page as it is."""
    tab.evaluate((npm() / "axe-core" / "axe.min.js").read_text(encoding="utf-8"))
    found = tab.evaluate("axe.run()")["violations"]
    return [f"{rule['id']}: {node['html']}: {node['failureSummary']}" for rule in found for node in rule["nodes"]]
