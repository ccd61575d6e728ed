"""Drawings of Bézier strokes, sampled with an exact prior of three, and shown in a finer resolution.

python examples/spline_toy.py --seeds 6 --out splines.png
"""

from __future__ import annotations

import argparse
from pathlib import Path

import pullback
import torch
from PIL import Image
from splines import Splines

SIZE = 24
RED, GREEN, BLUE = (torch.tensor(c).atanh() for c in ([0.8, -0.7, -0.7], [-0.7, 0.2, -0.6], [-0.7, -0.3, 0.8]))
BROWN, ORANGE = torch.tensor([0.0, -0.5, -0.8]).atanh(), torch.tensor([0.9, 0.0, -0.8]).atanh()
# strokes: coordinates x, y of four points, the logarithm of the half-width, the colour before tanh
FLOWER = [([0, 0.9, 0.1, 0.5, -0.1, 0.3, 0, -0.1], -3.0, GREEN), ([0, 0.6, 0.3, 0.1, 0.6, 0.3, 0.7, 0.2], -2.4, GREEN),
          ([0, -0.2, -1.1, -0.1, -0.7, -1, 0, -0.5], -2.0, RED), ([0, -0.2, 1.1, -0.1, 0.7, -1, 0, -0.5], -2.0, RED),
          ([-0.1, -0.35, 0, -0.35, 0, -0.35, 0.1, -0.35], -2.0, ORANGE)]  # fmt: skip
BOAT = [([-0.9, 0.75, -0.3, 0.6, 0.3, 0.9, 0.9, 0.7], -2.4, BLUE), ([0, 0.3, 0, 0, 0, -0.4, 0, -0.8], -3.2, BROWN),
        ([-0.6, 0.3, -0.4, 0.6, 0.4, 0.6, 0.6, 0.3], -2.1, BROWN), ([0, 0.1, 0.2, 0.1, 0.4, 0.1, 0.5, 0.1], -2.3, RED),
        ([0.1, -0.65, 0.5, -0.3, 0.55, -0.1, 0.55, 0.1], -2.3, RED)]  # fmt: skip
FISH = [([-0.8, -0.4, -0.5, -0.2, 0.5, 1.1, 0.8, 0], -2.3, ORANGE), ([0.4, 0, 0.4, 0, 0.5, 0, 0.5, 0], -2.8, BLUE),
        ([-0.8, 0.4, -0.5, 0.2, 0.5, -1.1, 0.8, 0], -2.3, ORANGE)]  # fmt: skip


def drawing_of(strokes: list[tuple[list[float], float, torch.Tensor]]) -> torch.Tensor:
    """The picture [3,H,W] of some strokes."""
    pens = Splines(len(strokes), SIZE, SIZE)
    for i, (points, width, ink) in enumerate(strokes):
        pens.points.data[i], pens.widths.data[i], pens.colours.data[i] = torch.tensor(points).view(4, 2), width, ink
    return pens.render([0])[0].detach()


def main(argv: list[str] | None = None) -> None:
    """Samples drawings of the prior, and writes them beside its three."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path("splines.png"))
    args = parser.parse_args(argv)
    prior = pullback.priors.MixturePrior(torch.stack([drawing_of(s) for s in (FLOWER, BOAT, FISH)]), smoothing=0.05)
    strip = list(prior.means.repeat_interleave(4, 2).repeat_interleave(4, 3))  # the prior's, then the samples
    for seed in range(args.seeds):
        torch.manual_seed(seed)
        drawing, finer = Splines(12, SIZE, SIZE, samples=12), Splines(12, 96, 96, samples=96)
        solver, generator = pullback.FirstOrder(lr=0.03, steps=50), torch.Generator().manual_seed(seed)
        sigmas = pullback.karras_sigmas(16, 0.1, 20.0, rho=3.0)
        result = pullback.sample(drawing, [0], prior.denoise, sigmas, solver=solver, generator=generator)
        finer.load_state_dict(drawing.state_dict())
        strip += finer.render([0]).detach()
        nearest, rms = prior.nearest(result.renders, [0])
        print(f"seed {seed}: a {['flower', 'boat', 'fish'][nearest]}, rms {rms:.3f}")
    Image.fromarray((torch.cat(strip, 2).clamp(-1, 1) * 127.5 + 128).byte().movedim(0, -1).numpy()).save(args.out)


if __name__ == "__main__":
    main()
