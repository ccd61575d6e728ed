#!/usr/bin/env python3
"""Writes the scripts of others that our pages hold, with their licences, into the package's folder output/web.

    python tools/vendor_web.py            write them
    python tools/vendor_web.py --check    exit status 1 where they are not what this tool would write

tools/web/package-lock.json has the versions, and the hash that npm holds every package against. It needs Node and npm.
After a change of tools/web/package.json: npm install --package-lock-only in tools/web, then this tool.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

WEB = Path(__file__).parent / "web"
TARGET = Path(__file__).parents[1] / "custom" / "threestudio-pullback" / "pullback" / "output" / "web"


def install(folder: Path) -> Path:
    """Installs the locked packages into a folder; returns node_modules. Runs no script of theirs."""
    for name in ("package.json", "package-lock.json"):
        shutil.copy(WEB / name, folder)
    npm = shutil.which("npm")
    if npm is None:
        raise SystemExit("error: npm is needed; install Node.js and npm")
    quietly = ("--ignore-scripts", "--no-audit", "--no-fund", "--silent")
    subprocess.run([npm, "ci", "--prefix", folder, *quietly], check=True, timeout=300)
    return folder / "node_modules"


def build(modules: Path) -> dict[str, bytes]:
    """The files of output/web by their names, from the locked packages."""
    shutil.copy(WEB / "three.js", modules.parent)
    version = {
        name: json.loads((modules / name / "package.json").read_text())["version"] for name in ("three", "uplot")
    }
    bundle = subprocess.run(
        [
            modules / ".bin" / "esbuild", modules.parent / "three.js", "--bundle", "--minify", "--format=iife",
            "--global-name=THREE", "--legal-comments=none", "--charset=utf8", "--log-level=warning",
        ],
        check=True, capture_output=True,
    ).stdout  # fmt: skip
    uplot = modules / "uplot"
    licences = {name: (modules / name / "LICENSE").read_bytes() for name in version}
    # a page that holds a script holds its licence too
    heads = {n: b"/*! %s %s\n\n%s*/\n" % (n.encode(), version[n].encode(), text) for n, text in licences.items()}
    files = {
        "three.js": heads["three"] + bundle,
        "uplot.js": heads["uplot"] + (uplot / "dist" / "uPlot.iife.min.js").read_bytes(),
        "uplot.css": (uplot / "dist" / "uPlot.min.css").read_bytes(),
        **{f"{name}.LICENSE": text for name, text in licences.items()},
    }
    for name, content in files.items():
        assert b"</script" not in content.lower() and b"</style" not in content.lower(), name  # they stand in pages
    return files


def main() -> int:
    with tempfile.TemporaryDirectory() as folder:
        files = build(install(Path(folder)))
    if "--check" in sys.argv:
        there = {file.name: file.read_bytes() for file in TARGET.iterdir()}
        wrong = sorted(name for name in files.keys() | there.keys() if files.get(name) != there.get(name))
        print(f"not what the tool writes: {', '.join(wrong)}" if wrong else "all files are what the tool writes")
        return bool(wrong)
    TARGET.mkdir(exist_ok=True)
    for name, content in files.items():
        (TARGET / name).write_bytes(content)
        print(f"{TARGET / name}: {len(content)} bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
