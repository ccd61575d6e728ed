"""Textures of a given cube, cone and torus with the shipped model: are they as the prompt says, and what do they cost?

    python experiments/texture_runs.py OUT      # 12 textures, a page for each mesh, and a table
    python experiments/texture_runs.py OUT --colours green,yellow --seed 10

Right is a texture of which three quarters in front, and three quarters behind, have the colour that the prompt says.
Pictures cannot tell that: from any height an exact cube or torus of two colours shows both.
"""

from __future__ import annotations

import argparse
import re
import time
from pathlib import Path
from typing import Any

import numpy as np
import trimesh
from pullback.evaluate.studio.world import COLORS
from pullback.output.markdown import print_table
from pullback.output.mesh_files import AXES, MeshData, save
from pullback.resources import TINY_MV, TINY_MV_CONFIG
from pullback.texturing.run import Request, run


def prompts(one: str, other: str, seed: int) -> list[tuple[str, str, str, list[int]]]:
    """Prompts with a place for the shape, the colours in front and behind, and seeds."""
    return [
        (f"a {one} {{}}", one, one, [seed]), (f"a {other} {{}}", other, other, [seed]),
        (f"a {{}} with a {one} front and a {other} back", one, other, [seed, seed + 1]),
    ]  # fmt: skip


SHARE = 0.75
"""Of the surface in front, and of that behind, must have the colour asked for."""


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


def colours(file: Path) -> list[tuple[str, float]]:
    """The commonest colour of a textured mesh's front and of its back, and its share of 5,000 points there.

    A point's colour is the studio's of the nearest direction in RGB, since shading makes it darker. The sixth of the
    width round the middle, where two colours meet, is left out.
    """
    mesh: Any = trimesh.load(file, force="mesh", process=False)
    points, faces, *_ = trimesh.sample.sample_surface(mesh, 5000, seed=0)
    inside = trimesh.triangles.points_to_barycentric(mesh.triangles[faces], points)
    places = (mesh.visual.uv[mesh.faces[faces]] * inside[..., None]).sum(1)
    library: Any = trimesh
    seen = library.visual.color.uv_to_interpolated_color(places, mesh.visual.material.baseColorTexture)[:, :3]
    palette = np.array(list(COLORS.values()))
    palette /= np.linalg.norm(palette, axis=1, keepdims=True)
    names = np.array(list(COLORS))[(seen @ palette.T).argmax(1)]
    along = points[:, 2] / np.ptp(mesh.vertices, 0).max()  # a glb's front is +z
    found = []
    for part in (along > 1 / 12, along < -1 / 12):
        values, counts = np.unique(names[part], return_counts=True)
        found.append((str(values[counts.argmax()]), float(counts.max() / counts.sum())))
    return found


def main() -> None:
    """Makes the textures and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--shapes", default="cube,cone,torus", help="some of them, with commas")
    parser.add_argument("--colours", default="red,blue", help="two of the model's, with a comma")
    parser.add_argument("--seed", type=int, default=0, help="the first of two")
    parser.add_argument("overrides", nargs="*", help="config overrides, key=value")
    arguments = parser.parse_args()
    one, other = arguments.colours.split(",")
    arguments.out.mkdir(parents=True, exist_ok=True)
    model, rows = f"system.prompt_processor.pretrained_model_name_or_path={TINY_MV}", []
    files = meshes(arguments.out)
    for shape, file in ((shape, files[shape]) for shape in arguments.shapes.split(",")):
        for words, front, back, seeds in prompts(one, other, arguments.seed):
            prompt, lines = words.format(shape), list[str]()
            name = re.sub(r"\W+", "-", prompt)
            start = time.perf_counter()
            run(
                Request(file, prompt, seeds, arguments.out / name, TINY_MV_CONFIG, [model, *arguments.overrides]),
                lines.append,
            )
            each = (time.perf_counter() - start) / len(seeds)
            for seed in seeds:
                (made,) = (arguments.out / name).glob(f"*-{seed}.glb")
                found = colours(made)
                right = all(c == w and share >= SHARE for (c, share), w in zip(found, (front, back), strict=True))
                shown = [f"{colour} {share:.2f}" for colour, share in found]
                rows.append([prompt, str(seed), "right" if right else "wrong", *shown, f"{each:.0f}"])
                print(*rows[-1], flush=True)
    print_table(["prompt", "seed", "verdict", "in front", "behind", "s, all in"], rows)
    print(sum(row[2] == "right" for row in rows), "of", len(rows), "are right")


if __name__ == "__main__":
    main()
