"""SDS and its drop-in replacement in real threestudio: one config, the same number of steps, the shipped model.

    python experiments/dropin.py --threestudio ~/threestudio [--steps 600] [--seeds 0] [--out outputs/dropin]

Runs dropin.yaml, an SDS config of threestudio's dreamfusion-system, as it is and with `guidance_type` changed and
`lambda_pullback` added, for every prompt. Prints how near each field comes to the exact
object over 16 held-out views. Runs that are there already are not repeated.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from pathlib import Path

from pullback.evaluate import saved_run as saved
from pullback.evaluate.studio import naming
from pullback.evaluate.studio import world as worlds
from pullback.evaluate.studio.held_out import held_out_cameras
from pullback.evaluate.studio.world import StudioObject
from pullback.output.contact_sheet import grid
from pullback.output.markdown import print_table
from pullback.output.pictures import psnr, save_png

ROOT = Path(__file__).resolve().parents[1]
CONFIG = Path(__file__).with_suffix(".yaml")
OBJECTS = [
    StudioObject("cube", "red", "blue"), StudioObject("sphere", "red", "red"), StudioObject("cone", "yellow", "yellow"),
]  # fmt: skip
WAYS = {
    "SDS, scale 100": [],
    "SDS, scale 7.5": ["system.guidance.guidance_scale=7.5"],
    "pullback, shared": [
        "system.guidance_type=pullback-guidance", "system.loss.lambda_pullback=1", "system.guidance.guidance_scale=2.5",
    ],
    "pullback, fresh": [
        "system.guidance_type=pullback-guidance", "system.loss.lambda_pullback=1", "system.guidance.guidance_scale=2.5",
        "system.guidance.noise=fresh",
    ],
}  # fmt: skip


def run(root: Path, out: Path, way: str, obj: StudioObject, seed: int, steps: int, more: list[str]) -> tuple[Path, str]:
    """Makes a run if OUT lacks it; returns its folder, and its seconds per step as text."""
    tag = f"{way}-{obj.caption}-{seed}-{steps}".replace(" ", "_").replace(",", "")
    trial = out / "sds-tiny" / tag
    seconds = trial / "seconds.txt"
    if not seconds.exists():
        command = [
            sys.executable, str(ROOT / "launch.py"), "--threestudio", str(root), "--config", str(CONFIG),
            "--train", f"exp_root_dir={out}", "use_timestamp=false", f"tag={tag}", f"seed={seed}",
            f"trainer.max_steps={steps}", f"system.prompt_processor.prompt={obj.caption}", *WAYS[way], *more,
        ]  # fmt: skip
        start = time.monotonic()
        with (out / f"{tag}.log").open("w") as log:
            if subprocess.run(command, stdout=log, stderr=subprocess.STDOUT).returncode:
                raise SystemExit(f"{way}, {obj.caption}: the run failed; see {log.name}")
        seconds.write_text(f"{(time.monotonic() - start) / steps:.2f}")
    return trial, seconds.read_text()


def main() -> None:
    """Makes the runs that OUT lacks, and prints the table of all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threestudio", type=Path, required=True, help="a checkout with the extension linked")
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--seeds", default="0")
    parser.add_argument("--objects", type=int, default=len(OBJECTS), help="how many of the prompts")
    parser.add_argument("--ways", default=";".join(WAYS), help="separated by semicolons")
    parser.add_argument("--out", type=Path, default=ROOT / "outputs" / "dropin")
    parser.add_argument("overrides", nargs="*", help="key=value for every run")
    args = parser.parse_args()
    out = args.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    c2w, rows, pictures = held_out_cameras(), [], []
    for obj in OBJECTS[: args.objects]:
        for way in args.ways.split(";"):
            for seed in map(int, args.seeds.split(",")):
                trial, seconds = run(args.threestudio, out, way, obj, seed, args.steps, args.overrides)
                made = saved.SavedRun(trial)
                renders, background = made.render(c2w), made.backdrop(c2w)
                match = naming.nearest_object(renders, c2w, background=background)
                exact = worlds.render(obj, c2w, 64, background=background)
                row = [obj.caption, way, str(seed), match.obj.caption, f"{psnr(renders, exact):.1f}", seconds]
                rows.append(row)
                pictures.append(renders[::2])
                print(*row, sep=" · ", flush=True)
    print_table(["prompt", "guidance", "seed", "nearest object", "PSNR to the object asked for", "s/step"], rows)
    save_png(out / "dropin.png", grid(pictures))


if __name__ == "__main__":
    main()
