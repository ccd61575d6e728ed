"""A panorama sampled from crops with an exact prior: one of four landscapes, without a seam, as files to look at.

python examples/panorama_toy.py --out panorama
"""

from __future__ import annotations

import argparse
from pathlib import Path

import pullback
import torch
from pullback.output import panorama_files
from pullback.views import crops

SIZE = 24  # pixels of a crop's side
SKIES = {"day": [-0.5, 0.1, 0.9], "dusk": [0.9, 0.0, -0.3]}
GROUNDS = {"grass": [-0.6, 0.3, -0.6], "snow": [0.8, 0.85, 0.95]}
LAND = [(sky, ground) for sky in SKIES for ground in GROUNDS]


def landscapes(towards: torch.Tensor) -> torch.Tensor:
    """Colours [4,...,3] of all landscapes in unit directions [...,3]: hills all round, a sun a little to the right."""
    azimuth, z = torch.atan2(towards[..., 1], towards[..., 0]), towards[..., 2]
    hills = 0.15 * (3 * azimuth).sin() + 0.08 * (5 * azimuth + 1).cos()
    above = torch.sigmoid((z - hills) * 40)[..., None]
    sun = torch.sigmoid((towards @ towards.new_tensor([0.86, -0.25, 0.44]) - 0.96) * 100)[..., None]
    sunny = towards.new_tensor([1.0, 0.95, 0.3])
    high = {sky: towards.new_tensor(c) - 0.35 * z[..., None].clamp(min=0) for sky, c in SKIES.items()}
    low = {ground: towards.new_tensor(c) + 0.4 * z[..., None].clamp(max=0) for ground, c in GROUNDS.items()}
    return torch.stack([low[g] + above * (high[s] + sun * (sunny - high[s]) - low[g]) for s, g in LAND])


def main(argv: list[str] | None = None) -> None:
    """Samples a panorama, and writes it as files to look at."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("panorama"))
    args = parser.parse_args(argv)

    def exact(views: dict[str, torch.Tensor]) -> torch.Tensor:
        return landscapes(crops.directions(views, SIZE, SIZE)).movedim(-1, 2)

    prior = pullback.priors.SceneMixture(exact, 0.05)
    torch.manual_seed(args.seed)
    panorama = pullback.diffreps.Panorama(3, SIZE, SIZE, hidden=64, layers=3, omega=10.0)
    solver, generator = pullback.FirstOrder(lr=2e-3, steps=8), torch.Generator().manual_seed(args.seed)
    sigmas = pullback.karras_sigmas(20, 0.1, 80.0, rho=3.0)
    views = crops.RandomCrops(8, fovy=(80.0, 100.0))  # fresh ones at every visit of a noise level
    again = pullback.Repaint(cycles=3)
    pullback.sample(panorama, views, prior.denoise, sigmas, "spherical", again, solver, generator=generator)
    everywhere = crops.cover(90.0)
    with torch.no_grad():
        nearest, rms = prior.nearest(panorama.render(everywhere), everywhere)
        files = panorama_files.save_all(args.out, panorama.equirectangular(256), " and ".join(LAND[nearest]))
    print(f"{' and '.join(LAND[nearest])}, rms {rms:.3f}; {', '.join(map(str, files))}")


if __name__ == "__main__":
    main()
