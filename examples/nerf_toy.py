"""A NeRF sampled with an exact prior: one of four objects from every side, another with another seed.

python examples/nerf_toy.py --seeds 3 --out nerf.png
"""

from __future__ import annotations

import argparse
from pathlib import Path

import pullback
import torch
from PIL import Image
from pullback.diffreps import VoxelField, orbit

SIZE = {"resolution": 16, "height": 24, "width": 24, "samples": 20}
COLOURS = {"red": [2.0, -2.0, -2.0], "blue": [-2.0, -1.0, 2.0]}


def solid(colour: str, shape: str) -> VoxelField:
    """A sphere or a box as a field."""
    field = VoxelField(**SIZE)
    axis = torch.linspace(-1, 1, field.resolution)
    place = torch.cartesian_prod(axis, axis, axis)
    outside = place.norm(dim=-1) - 0.7 if shape == "sphere" else (place.abs() - torch.tensor([0.6, 0.4, 0.6])).amax(-1)
    field.density.data = (-20 * outside).clamp(-6, 6)[:, None]
    field.colour.data = torch.tensor(COLOURS[colour]).expand(len(place), 3) - 1.5 * (place[:, 2:] < 0)
    return field


def cameras(generator: torch.Generator) -> torch.Tensor:
    """Six cameras all round, new ones at every visit of a noise level."""
    return orbit(*(torch.rand(2, 6, generator=generator) * torch.tensor([[40.0], [360.0]])))


def main(argv: list[str] | None = None) -> None:
    """Samples NeRFs with several seeds, and writes six views of each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("nerf.png"))
    args = parser.parse_args(argv)
    names = [f"{colour} {shape}" for shape in ("sphere", "box") for colour in COLOURS]
    objects = [solid(*name.split()).requires_grad_(False) for name in names]
    prior = pullback.priors.SceneMixture(lambda views: torch.stack([o.render(views) for o in objects]), 0.05)
    ring, rows = orbit(torch.full((6,), 30.0), torch.arange(6) * 60.0), []
    sigmas = pullback.karras_sigmas(16, 0.1, 20.0, rho=3.0)
    for seed in range(args.seeds):
        nerf, generator = VoxelField(**SIZE), torch.Generator().manual_seed(seed)
        again, solver = pullback.Repaint(cycles=2), pullback.FirstOrder(lr=0.1, steps=4)
        result = pullback.sample(nerf, cameras, prior.denoise, sigmas, "shared", again, solver, generator=generator)
        views = nerf.render(ring).detach()
        nearest, rms = prior.nearest(views, ring)
        rows.append(views.movedim(0, 2).flatten(2))  # [3,24,6·24]
        print(f"seed {seed}: a {names[nearest]}, rms {rms:.3f}, {result.nfe} denoiser calls")
    picture = Image.fromarray((torch.cat(rows, 1).clamp(-1, 1) * 127.5 + 128).byte().movedim(0, -1).numpy())
    picture.resize((6 * 96, 96 * args.seeds), Image.Resampling.BICUBIC).save(args.out)


if __name__ == "__main__":
    main()
