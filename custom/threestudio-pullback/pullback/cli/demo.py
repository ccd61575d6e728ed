"""`pullback demo`: a NeRF from a prompt with the shipped model."""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

from ..host.arguments import add_import
from ..output.file_names import slug
from ..resources import TINY_CONFIG, TINY_MODEL


def add_demo(commands: Any) -> None:
    """Adds the command to an argparse's sub-commands."""
    demo = commands.add_parser("demo", help="sample a NeRF from a prompt with the shipped model")
    demo.add_argument("--prompt", default="a cube with a red front and a blue back")
    demo.add_argument("--seed", type=int, default=0)
    demo.add_argument("--out", type=Path, default=Path("outputs"))
    add_import(demo)
    demo.add_argument("overrides", nargs="*", help="config overrides, key=value")
    demo.set_defaults(run=run_demo)


def run_demo(args: argparse.Namespace) -> int:
    """Trains, tests and exports the demo's config; returns launch.py's exit status."""
    from ..host.launch import main as launch

    tag = f"{slug(args.prompt)}-{args.seed}"
    common = [f"exp_root_dir={args.out}", "name=demo", f"tag={tag}", "use_timestamp=false"]
    common += [f"system.prompt_processor.pretrained_model_name_or_path={TINY_MODEL}"]
    common += [f"system.prompt_processor.prompt={args.prompt}", f"seed={args.seed}", *args.overrides]
    options = [word for name in args.imports for word in ("--import", name)]
    start = time.time()
    status = launch(["--config", str(TINY_CONFIG), *options, "--train", *common])
    if status:
        return status
    folder = args.out / "demo" / tag
    checkpoint = folder / "ckpts" / "last.ckpt"
    parsed = str(folder / "configs" / "parsed.yaml")
    export = ["--export", f"resume={checkpoint}", "use_timestamp=false"]
    # colours at the vertices take a second, a texture many
    export += ["system.exporter.fmt=glb", "system.exporter.save_uv=false"]
    status = launch(["--config", parsed, *options, *export])
    if status:
        return status
    print(f"\n{args.prompt!r}, made in {time.time() - start:.0f} s. Look at:")
    saved = folder / "save"
    for kind, pattern in (
        ("turntable", "*-test.mp4"),
        ("views", "*-grid.png"),
        ("as it went", "*-val.png"),
        ("mesh", "*-export/*"),
    ):
        files = sorted(saved.glob(pattern), key=lambda p: p.stat().st_mtime)
        if files:
            print(f"  {kind:10s} {files[-1]}")
    return 0
