"""What pictures of the shipped model are worth by integrator, number of levels and guidance policy, call for call.

    python experiments/pictures.py                                                  # the variants below
    python experiments/pictures.py --variants "euler 12;multistep 6 interval sigma_low=2" --pictures 32

A variant is an integrator (euler, heun or multistep), a number of levels and, if not always, a guidance policy with its
options. The sampler is the library's, with the latents themselves as representation: its Euler is DDIM. Prompts are
those of configs/compare/tiny-12.txt, seen from the side, with the same noise for each variant. Right: the nearest exact
picture is of an object that the prompt names. KID: in the features of the studio's classifier, to pictures from other
noise, by Heun with 20 levels and guidance at all of them. Same: PSNR to the picture that this makes of the same noise.
Means over prompts, with 95 % intervals by bootstrap over them. OUT/pictures.json keeps the rows, one a prompt and
variant, and a run goes on from there.
"""

from __future__ import annotations

import argparse
import functools
from pathlib import Path
from typing import Any

import pullback
import torch
from pullback import diffreps, models
from pullback.evaluate import metrics, options
from pullback.evaluate.campaign import Results
from pullback.evaluate.compare.plan import load_prompts
from pullback.evaluate.studio import captions, classifier, naming
from pullback.evaluate.studio.model import load
from pullback.output.markdown import print_table
from pullback.output.pictures import psnr
from pullback.resources import TINY_MODEL
from torch import Tensor

PROMPTS = "configs/compare/tiny-12.txt"
ORDERS: dict[str, int | str] = {"euler": 1, "heun": 2, "multistep": "multistep"}
CONVERGED = "heun 20"
VARIANTS = (
    "euler 12", "euler 12 adaptive threshold=0.95", "euler 12 interval sigma_low=3", "multistep 12", "euler 6",
    "multistep 6", "heun 6",
)  # fmt: skip
SCALE = 2.5


def policy_of(words: list[str]) -> dict[str, Any]:
    """Reads the words NAME option=value …; no words mean guidance at all levels."""
    name, *others = words or ["always"]
    usual = {key: value for key, value in vars(models.POLICIES.find(name)).items() if isinstance(value, float)}
    return {"type": name, **options.read(others, usual, f"--variants {' '.join(words)!r}")}


@functools.cache
def pictures(prompt: str, variant: str, count: int, seed: int) -> tuple[Tensor, float]:
    """Pictures [count,3,64,64] of a prompt, and the calls that one of them took."""
    model: Any = load(str(TINY_MODEL))
    integrator, levels, *policy = variant.split()
    cond, uncond = model.encode_prompt([f"{prompt}, side view", ""]).chunk(2)
    denoise = models.GuidedDenoiser(model, lambda views: (cond, uncond), SCALE, policy=policy_of(policy))
    latents = diffreps.Pixels(count, model.latent_channels, model.sample_size, model.sample_size)
    sigmas = pullback.karras_sigmas(int(levels), 0.1, model.sigma_max, rho=3.0)
    for _ in pullback.steps(
        latents, list(range(count)), lambda noisy, sigma, views: denoise(noisy, sigma, views), sigmas, "independent",
        solver=pullback.GaussNewton(iterations=1, cg_iterations=1), order=ORDERS[integrator],
        generator=torch.Generator().manual_seed(seed),
    ):  # fmt: skip
        pass
    return model.decode(latents.values.detach()), denoise.nfe / count


@functools.cache
def bank() -> naming.PictureBank:
    """The exact pictures."""
    return naming.PictureBank()


def run_one(prompt: str, variant: str, count: int) -> dict[str, Any]:
    """The row of a prompt and a variant."""
    made, calls = pictures(prompt, variant, count, 0)
    description, each = captions.parse(prompt), torch.arange(count)
    assert description is not None
    other = classifier.load_studio().images(pictures(prompt, CONVERGED, count, 1)[0])
    return {
        "variant": variant, "prompt": prompt, "count": count, "calls": calls,
        "right": sum(description.holds(obj) for obj in bank().name(made)) / count,
        "kid": metrics.kid(classifier.load_studio().images(made), other, (each, each)).value,
        "same": psnr(made, pictures(prompt, CONVERGED, count, 0)[0]),
    }  # fmt: skip


def main() -> None:
    """Makes the rows that OUT lacks, and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--variants", default=";".join(VARIANTS), help="separated by semicolons")
    parser.add_argument("--prompts", default=PROMPTS, help="a file, or texts with ; between them")
    parser.add_argument("--pictures", type=int, default=12, help="of each prompt (default 12)")
    parser.add_argument("--out", type=Path, default=Path("outputs/pictures"), help="folder of the rows")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    variants, prompts = arguments.variants.split(";"), load_prompts(arguments.prompts)
    results = Results(arguments.out / "pictures.json", ("variant", "prompt", "count"))
    count = arguments.pictures
    tasks = {(text, prompt, count): (prompt, text, count) for prompt in prompts for text in variants}
    results.run(run_one, tasks, 1, lambda row: f"{row['prompt']}, {row['variant']}: {row['same']:.1f} dB")
    lines = []
    for text in variants:
        rows, cells = [row for row in results.of(text) if row["prompt"] in prompts and row["count"] == count], [text]
        for name, digits in (("calls", 1), ("right", 3), ("kid", 4), ("same", 1)):
            found = metrics.mean_interval({(row["prompt"], 0): row[name] for row in rows})
            cells.append(f"{found.value:.{digits}f} ({found.low:.{digits}f} to {found.high:.{digits}f})")
        lines.append(cells)
    print_table(["variant", "calls a picture", "right", "KID", "same, dB"], lines)


if __name__ == "__main__":
    main()
