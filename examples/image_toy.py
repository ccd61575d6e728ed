"""Text to image: a sine network sampled with the shipped model, shown at four times the model's resolution.

python examples/image_toy.py --prompt "a red cube" --out image.png
"""

from __future__ import annotations

import argparse
from pathlib import Path

import pullback
import torch
import torch.nn.functional as F
from PIL import Image
from pullback import models
from torch import Tensor

MODEL = Path(__file__).resolve().parent.parent / "custom" / "threestudio-pullback" / "assets" / "tiny-sd"


def sample(prompt: str, seed: int, levels: int) -> tuple[Tensor, Tensor]:
    """The sampled image as the model saw it [3,64,64] and rendered finer [3,256,256]."""
    torch.manual_seed(seed)
    model = models.load(MODEL)
    denoise = models.GuidedDenoiser(model, models.fixed_text(model, prompt), guidance_scale=3.0)
    image = pullback.diffreps.SirenImage(3, model.image_size, model.image_size, hidden=128, layers=3)
    pullback.sample(
        image,
        views=[0],  # an image has one
        denoise=denoise,
        sigmas=pullback.karras_sigmas(levels, model.sigma_min, model.sigma_max),
        solver=pullback.FirstOrder(lr=1e-3, steps=40),
        generator=torch.Generator().manual_seed(seed),
    )
    with torch.no_grad():
        return image.render([0])[0], image.image(256, 256)


def main(argv: list[str] | None = None) -> None:
    """Samples an image, and writes it in both resolutions."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--prompt", default="a red cube")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--levels", type=int, default=20)
    parser.add_argument("--out", type=Path, default=Path("image.png"))
    args = parser.parse_args(argv)
    coarse, finer = sample(args.prompt, args.seed, args.levels)
    both = torch.cat([F.interpolate(coarse[None], scale_factor=4)[0], finer], 2)
    Image.fromarray((both.clamp(-1, 1) * 127.5 + 128).byte().movedim(0, -1).numpy()).save(args.out)


if __name__ == "__main__":
    main()
