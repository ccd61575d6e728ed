"""Textures of a given cube, cone and torus with the shipped model: are they as the prompt says, and what do they cost?

    python experiments/texture_runs.py OUT      # 12 textures, a page for each mesh, and a table

Right is a texture whose turntable the studio classifier reads as the prompt says, in front and behind: in the right
shape, and in the right colour and no other.
"""

from __future__ import annotations

import argparse
import re
import time
from pathlib import Path

import numpy as np
import torch
import trimesh
from PIL import Image
from pullback.evaluate.studio.classifier import load_studio
from pullback.output.markdown import print_table
from pullback.output.mesh_files import AXES, MeshData, save
from pullback.resources import TINY_CONFIG, TINY_MODEL
from pullback.texturing.run import Request, run

PROMPTS = [
    ("a red {}", "red", "red", [0]), ("a blue {}", "blue", "blue", [0]),
    ("a {} with a red front and a blue back", "red", "blue", [0, 1]),
]  # fmt: skip
FRAMES = (0, 1, 23, 11, 12, 13)
"""Three pictures of the turntable from in front and three from behind, 15° apart."""


def meshes(folder: Path) -> dict[str, Path]:
    """The solids in the studio's sizes, as glb."""
    made = {
        "cube": trimesh.creation.box((0.86, 0.86, 0.86)),
        "cone": trimesh.creation.cone(0.6, 1.15, sections=48),
        "torus": trimesh.creation.torus(0.44, 0.2, major_sections=48, minor_sections=24),
    }
    files = {}
    for name, mesh in made.items():
        files[name] = folder / f"{name}.glb"
        save(str(files[name]), MeshData(np.asarray(mesh.vertices) @ np.array(AXES["y"]).T, np.asarray(mesh.faces)))
    return files


def seen(folder: Path) -> list[tuple[str, str]]:
    """Shape and colours of the pictures FRAMES of a turntable."""
    pictures = [np.asarray(Image.open(folder / f"{i:03d}.png").convert("RGB")) for i in FRAMES]
    batch = torch.from_numpy(np.stack(pictures)).movedim(-1, 1).float() / 127.5 - 1
    return [(str(each.shape), "+".join(each.colours)) for each in load_studio().see(batch)]


def main() -> None:
    """Makes the textures and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--shapes", default="cube,cone,torus", help="some of them, with commas")
    parser.add_argument("overrides", nargs="*", help="config overrides, key=value")
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    model, rows = f"system.prompt_processor.pretrained_model_name_or_path={TINY_MODEL}", []
    files = meshes(arguments.out)
    for shape, file in ((shape, files[shape]) for shape in arguments.shapes.split(",")):
        for words, front, back, seeds in PROMPTS:
            prompt, lines = words.format(shape), list[str]()
            name = re.sub(r"\W+", "-", prompt)
            start = time.perf_counter()
            run(
                Request(file, prompt, seeds, arguments.out / name, TINY_CONFIG, [model, *arguments.overrides]),
                lines.append,
            )
            each = (time.perf_counter() - start) / len(seeds)
            for seed in seeds:
                (views,) = (arguments.out / name / "views").glob(f"*-{seed}")
                shapes, colours = zip(*seen(views), strict=True)
                right = set(shapes) == {shape} and set(colours[:3]) == {front} and set(colours[3:]) == {back}
                rows.append([prompt, str(seed), "right" if right else "wrong", " ".join(shapes), " ".join(colours),
                             f"{each:.0f}"])  # fmt: skip
                print(*rows[-1], flush=True)
    print_table(["prompt", "seed", "verdict", "shapes", "colours, three in front, three behind", "s, all in"], rows)
    print(sum(row[2] == "right" for row in rows), "of", len(rows), "are right")


if __name__ == "__main__":
    main()
