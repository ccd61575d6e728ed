"""Joint worlds: each sample against the exact flow of its first group's long image, from the same noise.

    pullback evaluate worlds --denoiser joint --world two-tone --seeds 512-767 --out outputs/joint
    python experiments/joint_flow.py outputs/joint

The flow has 80 levels, and moves pictures, not a field. Its law is the right one but for what the start shows. So what
its histogram misses is chance, and where a sample is another scene the sampler erred. Prints for each world how many
samples are the flow's scene, and the total variation of both histograms from the weights.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from pullback.evaluate.exact_worlds import methods, runner, worlds
from pullback.evaluate.exact_worlds.joint import JointMixture
from pullback.output.markdown import print_table
from torch import Tensor

LEVELS = 80


class First(Exception):
    """The first call of a run's denoiser: (noisy, sigma, views)."""


def first_call(world: Any, seed: int) -> tuple[Tensor, float, Tensor]:
    """What the denoiser of a run is asked first."""

    def stop(noisy: Tensor, sigma: float, views: Tensor) -> Tensor:
        raise First(noisy, sigma, views)

    exact, world.denoise = world.denoise, JointMixture(stop, world.group)
    try:
        methods.parse("pullback")(world, seed)
    except First as call:
        return call.args
    finally:
        world.denoise = exact
    raise AssertionError("a run asked its denoiser nothing")


@torch.no_grad()
def flow(world: Any, seed: int) -> int:
    """The scene that the exact flow of the first group makes of a seed's noise."""
    noisy, sigma, views = first_call(world, seed)
    views = views[: world.group]
    scenes = world.images(views).flatten(1).double()
    image = world.diffrep().render(views).flatten().double()
    noise = (noisy[: world.group].flatten().double() - image) / sigma
    sigmas = world.sigmas(LEVELS, float(sigma)).tolist()
    for level, below in itertools.pairwise(sigmas):
        squares = (image + level * noise - scenes).square().sum(1)
        mean = torch.softmax(world.weights.log() - squares / (2 * level**2), 0) @ scenes
        image = torch.lerp(mean, image, below / level)
    return int((image - scenes).square().sum(1).argmin())


def variation(found: Iterable[int], weights: Tensor) -> float:
    """Total variation between a histogram of scenes and the weights."""
    shares = torch.bincount(torch.tensor(list(found)), minlength=len(weights)).double()
    return float((shares / shares.sum() - weights).abs().sum() / 2)


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", type=Path, help="the --out of `pullback evaluate worlds`")
    args = parser.parse_args()
    torch.set_num_threads(1)
    results, lines = runner.results_of(args.rows), []
    for name in dict.fromkeys(row["world"] for row in results.rows):
        world: Any = worlds.world(name)
        found = {row["seed"]: row["judged"]["scene"] for row in results.of(name, "pullback")}
        exact = {seed: flow(world, seed) for seed in found}
        same = sum(found[seed] == exact[seed] for seed in found)
        far = (f"{variation(scenes.values(), world.weights):.3f}" for scenes in (found, exact))
        lines.append([name, str(len(found)), f"{same / len(found):.2f}", *far])
    print_table(["world", "samples", "the flow's scene", "TV", "TV of the flow"], lines)


if __name__ == "__main__":
    main()
