"""Exports a run's mesh, opens it where users do, and holds what is drawn against the NeRF's renders.

    python tools/look_at_mesh.py outputs/demo/a_red_cube-0
    python tools/look_at_mesh.py outputs/demo/a_red_cube-0 --texture --blender /tmp/blender/bin/python

three.js draws the glb in headless Chromium. With --blender, the Python of an environment that has bpy, Blender draws
glb, obj with mtl and ply too (tools/blender_views.py). Prints, for each view, in the pixels where the NeRF's opacity is
above 1/2, the PSNR in dB of the unlit picture to the render, and the median difference in 255ths where the mesh is
drawn as well. Writes pictures to RUN/save/look: renders, unlit, lit.
"""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import torch
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
sys.path.append(str(ROOT / "tests"))

from pullback.host.base import read_checkpoint  # noqa: E402
from pullback.host.config import load_config  # noqa: E402
from pullback.host.parts import load_parts  # noqa: E402
from pullback.host.registry import find  # noqa: E402
from pullback.host.training.saving import SaverMixin  # noqa: E402
from pullback.views.cameras import camera_rays, orbit  # noqa: E402
from three_viewer import open_viewer  # noqa: E402

SIZE, DISTANCE, FOVY, GREY = 256, 2.4, 40, 0.5
VIEWS = {"front": (0.0, 0.0), "side": (0.0, 90.0), "top": (90.0, 0.0), "above": (30.0, 40.0), "back": (10.0, 200.0)}


class Run:
    """The scene of a run's last checkpoint."""

    def __init__(self, folder: Path) -> None:
        load_parts()
        self.system = load_config(str(folder / "configs" / "parsed.yaml"), n_gpus=1).system
        state = read_checkpoint(str(folder / "ckpts" / "last.ckpt"), "resume")["state_dict"]
        parts = {n: find(self.system[f"{n}_type"])(self.system[n]) for n in ("geometry", "material", "background")}
        self.renderer = find(self.system.renderer_type)(self.system.renderer, **parts)
        self.parts = parts
        for name, part in {**parts, "renderer": self.renderer}.items():
            part.load_state_dict({k[len(name) + 1 :]: v for k, v in state.items() if k.startswith(f"{name}.")})
            part.eval()

    def render(self, view: tuple[float, float]) -> tuple[np.ndarray, np.ndarray]:
        """Colours [H, W, 3] on grey, and opacity [H, W]."""
        pose = orbit(torch.tensor([view[0]]), torch.tensor([view[1]]), DISTANCE)
        rays_o, rays_d = camera_rays(pose, math.radians(FOVY), SIZE, SIZE)
        with torch.no_grad():
            out = self.renderer(rays_o, rays_d, torch.zeros(1, 3), bg_color=torch.full((1, 3), GREY))
        return out["comp_rgb"][0].numpy().clip(0, 1), out["opacity"][0, ..., 0].numpy()

    def export(self, folder: Path, **cfg: object) -> Path:
        (output,) = find("mesh-exporter")(cfg, **self.parts)()
        saver = SaverMixin()
        saver.set_save_dir(str(folder))
        return Path(saver.save_mesh(output.save_name, **output.params))


def compare(title: str, pictures: list[np.ndarray], renders: list[tuple[np.ndarray, np.ndarray]]) -> None:
    for name, picture, (render, opacity) in zip(VIEWS, pictures, renders, strict=True):
        shown = opacity > 0.5
        both = shown & (np.abs(picture - GREY).max(-1) > 2 / 255)
        psnr = -10 * math.log10(float(((picture - render)[shown] ** 2).mean()))
        median = 255 * float(np.median(np.abs(picture - render)[both]))
        print(f"{title:22s} {name:6s} PSNR {psnr:5.2f} dB, median difference {median:4.2f}")


def save(path: Path, rows: list[list[np.ndarray]]) -> None:
    sheet = np.concatenate([np.concatenate(row, 1) for row in rows])
    Image.fromarray(np.rint(255 * sheet).astype(np.uint8)).save(path)


def in_blender(python: str, file: Path, folder: Path, lit: str) -> list[np.ndarray]:
    command = [python, ROOT / "tools" / "blender_views.py", file, folder, json.dumps([*VIEWS.values()]), lit]
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True)
    if done.returncode:
        sys.exit(done.stdout + done.stderr)
    print(next(line for line in done.stdout.splitlines() if line.startswith("imported")))
    return [np.asarray(Image.open(folder / f"{i}.png").convert("RGB")) / 255 for i in range(len(VIEWS))]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--out", type=Path, help="default: RUN/save/look")
    parser.add_argument(
        "--texture", action="store_true", help="a texture in the glb; otherwise colours at the vertices"
    )
    parser.add_argument("--blender", metavar="PYTHON", help="a Python that has bpy")
    args = parser.parse_args()
    run, out = Run(args.run), args.out or args.run / "save" / "look"
    out.mkdir(parents=True, exist_ok=True)
    renders = [run.render(view) for view in VIEWS.values()]
    glb = run.export(out, fmt="glb", save_uv=args.texture)
    with open_viewer() as viewer:
        unlit, lit = (viewer.draw(glb, [*VIEWS.values()], how, SIZE, DISTANCE, FOVY, GREY) for how in ("none", "lamps"))
    compare("three.js, glb", unlit, renders)
    save(out / "three.png", [[render for render, _ in renders], unlit, lit])
    if args.blender:
        for file in (glb, run.export(out / "obj", fmt="obj-mtl"), run.export(out, fmt="ply")):
            unlit, lit = (in_blender(args.blender, file, out / "blender", how) for how in ("none", "lamps"))
            compare(f"Blender, {file.suffix[1:]}", unlit, renders)
            save(out / f"blender-{file.suffix[1:]}.png", [[render for render, _ in renders], unlit, lit])
    print(f"pictures are in {out}")


if __name__ == "__main__":
    main()
