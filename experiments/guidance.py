"""Which calls of guidance does the shipped model need? Pictures by DDIM, with a guidance policy each.

    python experiments/guidance.py                                       # the policies below
    python experiments/guidance.py --policies "always;interval sigma_low=2" --pictures 32

Pictures of the prompts of configs/compare/tiny-12.txt, from the side, from the same noise for each policy. Right: the
nearest exact picture is of an object that the prompt names. KID: in the features of the studio's classifier, to as many
pictures with guidance at every level and other noise. Same: PSNR to the picture from the same noise with guidance at
every level. Means over prompts, with 95 % intervals by bootstrap over them. OUT/guidance.json keeps the rows, one a
prompt and policy, and a run goes on from there.
"""

from __future__ import annotations

import argparse
import functools
from pathlib import Path
from typing import Any

import torch
from pullback import karras_sigmas, models
from pullback.evaluate import metrics, options
from pullback.evaluate.campaign import Results
from pullback.evaluate.compare.plan import load_prompts
from pullback.evaluate.studio import captions, classifier, naming
from pullback.evaluate.studio.model import ddim, load
from pullback.output.markdown import print_table
from pullback.output.pictures import psnr
from pullback.resources import TINY_MODEL
from torch import Tensor

PROMPTS = "configs/compare/tiny-12.txt"
POLICIES = (
    "always", "adaptive threshold=0.9", "adaptive threshold=0.95", "adaptive threshold=0.99", "interval sigma_low=2",
    "interval sigma_low=3", "interval sigma_low=4", "interval sigma_low=0.5 sigma_high=10", "interval sigma_high=0.001",
)  # fmt: skip
SCALE, LEVELS = 2.5, 12


def policy_of(text: str) -> dict[str, Any]:
    """Reads "NAME option=value …"."""
    name, *words = text.split()
    usual = {key: value for key, value in vars(models.POLICIES.find(name)).items() if isinstance(value, float)}
    return {"type": name, **options.read(words, usual, f"--policies {text!r}")}


def pictures(prompt: str, text: str, count: int, seed: int) -> tuple[Tensor, int]:
    """Pictures [count,3,64,64] of a prompt, and the calls that they took."""
    model: Any = load(str(TINY_MODEL))
    cond, uncond = model.encode_prompt([f"{prompt}, side view", ""]).chunk(2)
    denoise = models.GuidedDenoiser(model, lambda views: (cond, uncond), SCALE, policy=policy_of(text))
    sigmas = karras_sigmas(LEVELS, 0.1, model.sigma_max, rho=3.0).tolist()
    shape = (count, model.latent_channels, model.sample_size, model.sample_size)
    noisy = sigmas[0] * torch.randn(shape, generator=torch.Generator().manual_seed(seed))
    return model.decode(ddim(denoise, noisy, sigmas, None)), denoise.nfe


@functools.cache
def always(prompt: str, count: int, seed: int) -> tuple[Tensor, int]:
    """The pictures with guidance at every level."""
    return pictures(prompt, "always", count, seed)


def run_one(prompt: str, text: str, count: int) -> dict[str, Any]:
    """The row of a prompt and a policy."""
    made, calls = always(prompt, count, 0) if text == "always" else pictures(prompt, text, count, 0)
    description, each = captions.parse(prompt), torch.arange(count)
    assert description is not None
    first, second = (classifier.load_studio().images(images) for images in (made, always(prompt, count, 1)[0]))
    return {
        "policy": text, "prompt": prompt, "count": count, "calls": calls / always(prompt, count, 0)[1],
        "right": sum(description.holds(obj) for obj in naming.PictureBank().name(made)) / count,
        "kid": metrics.kid(first, second, (each, each)).value,
        "same": None if text == "always" else psnr(made, always(prompt, count, 0)[0]),
    }  # fmt: skip


def main() -> None:
    """Makes the rows that OUT lacks, and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--policies", default=";".join(POLICIES), help="separated by semicolons")
    parser.add_argument("--prompts", default=PROMPTS, help="a file, or texts with ; between them")
    parser.add_argument("--pictures", type=int, default=24, help="of each prompt (default 24)")
    parser.add_argument("--out", type=Path, default=Path("outputs/guidance"), help="folder of the rows")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    policies, prompts = arguments.policies.split(";"), load_prompts(arguments.prompts)
    results = Results(arguments.out / "guidance.json", ("policy", "prompt", "count"))
    count = arguments.pictures
    tasks = {(text, prompt, count): (prompt, text, count) for prompt in prompts for text in policies}
    results.run(run_one, tasks, 1, lambda row: f"{row['prompt']}, {row['policy']}: {row['calls']:.2f} of the calls")
    lines = []
    for text in policies:
        rows, cells = [row for row in results.of(text) if row["prompt"] in prompts and row["count"] == count], [text]
        for name, digits in (("calls", 2), ("right", 3), ("kid", 4), ("same", 1)):
            values = {(row["prompt"], 0): row[name] for row in rows if row[name] is not None}
            found = metrics.mean_interval(values) if values else None
            cells.append(
                f"{found.value:.{digits}f} ({found.low:.{digits}f} to {found.high:.{digits}f})" if found else ""
            )
        lines.append(cells)
    print_table(["policy", "share of the calls", "right", "KID", "same, dB"], lines)


if __name__ == "__main__":
    main()
