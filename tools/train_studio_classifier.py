"""Trains the shipped classifier of the studio world (assets/studio-classifier) from nothing.

    python tools/train_studio_classifier.py --out custom/threestudio-pullback/assets/studio-classifier

Exact pictures of random objects from random cameras, a part of them through the shipped model's autoencoder, made
worse on purpose (fog, blur, noise, wrong colours), and pictures of nothing. Settings are the SETTINGS below; curve and
figures go beside the weights. Weights that are there are not trained again.
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from pullback import models
from pullback.evaluate import metrics
from pullback.evaluate.studio import naming
from pullback.evaluate.studio import world as worlds
from pullback.evaluate.studio.captions import DIRECTIONS
from pullback.evaluate.studio.classifier import SIZE, Network, StudioClassifier, labels, load_studio
from pullback.evaluate.studio.model import sample_pictures
from pullback.resources import TINY_MODEL
from safetensors.torch import save_file
from torch import Tensor

SETTINGS = {
    "seed": 0,
    "cameras_per_shape": 500,
    "elevation": [0.0, 60.0],
    "decoded": 2400,
    "decoded_share": 0.3,
    "nothing_share": 0.08,
    "other_backdrop_share": 0.5,
    "steps": 3000,
    "batch": 64,
    "lr": 3e-3,
    "weight_decay": 0.02,
    "label_smoothing": 0.02,
    "colour_weight": 4.0,
}
Labels = tuple[Tensor, Tensor]
PALETTE = torch.tensor(list(worlds.COLORS.values()))


class Pictures:
    """Exact pictures of random objects, coloured on demand, with their labels."""

    def __init__(self, generator: torch.Generator) -> None:
        self.generator, n = generator, SETTINGS["cameras_per_shape"]
        u = torch.rand(len(worlds.SHAPES) * n, 2, generator=generator)
        low, high = SETTINGS["elevation"]
        c2w = worlds.look_at(low + (high - low) * u[:, 0], u[:, 1] * 360)
        parts = zip(worlds.SHAPES, c2w.split(n), strict=True)
        self.buffers = torch.cat(
            [worlds.shading_buffers(shape, part, SIZE) for shape, views in parts for part in views.split(25)]
        )
        self.shape = torch.arange(len(worlds.SHAPES)).repeat_interleave(n)
        self.background = worlds.backdrop(worlds.camera_rays(c2w, SIZE)[1]).movedim(-1, 1)

    def random(self, *size: int) -> Tensor:
        """Uniform random numbers in [0, 1)."""
        return torch.rand(*size, generator=self.generator)

    def make(self, count: int, worse: bool) -> tuple[Tensor, Labels]:
        """[count,3,64,64] in [-1,1] and labels; `worse` fogs objects, shifts their colours and swaps backdrops."""
        index = torch.randint(len(self.buffers), (count,), generator=self.generator)
        front, back = torch.randint(len(PALETTE), (2, count), generator=self.generator)
        buffers, colours = self.buffers[index], torch.stack([PALETTE[front], PALETTE[back]])
        shape, colours_seen = labels(self.shape[index], front, back, buffers)
        background = self.background[index]
        if worse:
            colours = colours + 0.16 * (self.random(2, count, 3) - 0.5)
            solid = (1 - 0.3 * self.random(count, 1, 1, 1)) ** (self.random(count, 1, 1, 1) < 0.4)
            nothing = self.random(count) < SETTINGS["nothing_share"]
            solid[nothing] = 0.15 * self.random(int(nothing.sum()), 1, 1, 1)
            buffers = buffers * solid
            shape[nothing], colours_seen[nothing] = len(worlds.SHAPES), 0
            # so that features say what stands in the studio, not from where it is seen
            swap = self.random(count) < SETTINGS["other_backdrop_share"]
            background[swap] = background.roll(1, 0)[swap]
        return worlds.compose(buffers, colours[0], colours[1], background), (shape, colours_seen)


def through_model(pictures: Pictures, generator: torch.Generator) -> tuple[Tensor, Labels]:
    """Pictures as the shipped model's decoder draws them, from latents with a little noise, and their labels."""
    model, drawn = models.load(TINY_MODEL), []
    exact, targets = pictures.make(SETTINGS["decoded"], worse=False)
    with torch.no_grad():
        for part in exact.split(40):
            latents = model.encode(part)
            noise = 0.2 * torch.rand(len(part), 1, 1, 1, generator=generator)
            latents = latents + noise * torch.randn(latents.shape, generator=generator)
            drawn.append(model.decode(latents).clamp(-1, 1))
    return torch.cat(drawn), targets


def worsen(pictures: Tensor, generator: torch.Generator) -> Tensor:
    """Blur, displacement, contrast, fine and coarse noise, each on a random part of the pictures [B,3,64,64]."""
    count = len(pictures)

    def amount(share: float, most: float) -> Tensor:
        u = torch.rand(2, count, 1, 1, 1, generator=generator)
        return most * u[0] * (u[1] < share)

    moved = torch.eye(2, 3).repeat(count, 1, 1)
    moved[:, :, :2] *= 1 + 0.2 * (torch.rand(count, 1, 1, generator=generator) - 0.5)
    moved[:, :, 2] = 0.12 * (torch.rand(count, 2, generator=generator) - 0.5)
    moved = torch.where(amount(0.5, 1.0)[:, 0, :1] > 0, moved, torch.eye(2, 3))
    grid = F.affine_grid(moved, list(pictures.shape), align_corners=False)
    pictures = F.grid_sample(pictures, grid, padding_mode="border", align_corners=False)
    small = F.avg_pool2d(pictures, 4)
    blurred = F.interpolate(small, (SIZE, SIZE), mode="bilinear", align_corners=False)
    pictures = pictures + amount(0.5, 1.0) * (blurred - pictures)
    pictures = pictures * (1 + amount(0.5, 0.4) - amount(0.5, 0.4)) + amount(0.3, 0.2) - amount(0.3, 0.2)
    coarse = torch.randn(count, 3, 8, 8, generator=generator)
    coarse = F.interpolate(coarse, (SIZE, SIZE), mode="bilinear", align_corners=False)
    fine = torch.randn(pictures.shape, generator=generator)
    return (pictures + amount(0.3, 0.2) * coarse + amount(0.5, 0.3) * fine).clamp(-1, 1)


def loss_of(network: Network, features: Tensor, shape: Tensor, colours_seen: Tensor) -> Tensor:
    """Cross entropy of the shape, and of each colour that is clear; their targets a little short of certain."""
    smoothing, clear = SETTINGS["label_smoothing"], colours_seen >= 0
    colours = F.binary_cross_entropy_with_logits(
        network.heads["colours"](features)[clear], colours_seen[clear] * (1 - smoothing) + smoothing / 2
    )
    return F.cross_entropy(network.heads["shape"](features), shape, label_smoothing=smoothing) + (
        SETTINGS["colour_weight"] * colours
    )


def train(network: Network, curve: Path) -> None:
    """Trains the network, and writes the curve of its loss as CSV."""
    generator = torch.Generator().manual_seed(SETTINGS["seed"])
    start = time.process_time()
    pictures = Pictures(generator)
    print(f"{len(pictures.buffers)} cameras, {time.process_time() - start:.0f} s", flush=True)
    decoded, decoded_labels = through_model(pictures, generator)
    print(f"{len(decoded)} decoded, {time.process_time() - start:.0f} s", flush=True)
    steps, batch = SETTINGS["steps"], SETTINGS["batch"]
    optimizer = torch.optim.AdamW(network.parameters(), SETTINGS["lr"], weight_decay=SETTINGS["weight_decay"])
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, SETTINGS["lr"], total_steps=steps, pct_start=0.1)
    rows, running = [("step", "seconds", "loss")], math.nan
    for step in range(1, steps + 1):
        exact, own = pictures.make(batch, worse=True)
        swapped = int(batch * SETTINGS["decoded_share"])
        index = torch.randint(len(decoded), (swapped,), generator=generator)
        targets = [torch.cat([a[swapped:], b[index]]) for a, b in zip(own, decoded_labels, strict=True)]
        features = network(worsen(torch.cat([exact[swapped:], decoded[index]]), generator))
        loss = loss_of(network, features, targets[0], targets[1])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        running = 0.98 * running + 0.02 * float(loss.detach()) if step > 1 else float(loss.detach())
        if step % 100 == 0:
            rows.append((str(step), f"{time.process_time() - start:.0f}", f"{running:.4f}"))
            print(*rows[-1], flush=True)
    with curve.open("w", newline="") as f:
        csv.writer(f).writerows(rows)


def right(classifier: StudioClassifier, pictures: Tensor, targets: Labels) -> dict[str, float]:
    """Shares of pictures with the shape right, the colours (those that are clear), and both."""
    contents, (shape, colours_seen) = classifier.see(pictures), targets
    same = torch.tensor([(*worlds.SHAPES, None).index(s.shape) for s in contents]) == shape
    names = torch.tensor([[name in s.colours for name in worlds.COLORS] for s in contents])
    colours = ((names == (colours_seen == 1)) | (colours_seen < 0)).all(1)
    shares = {"shape": same, "colours": colours, "all": same & colours}
    return {"count": len(pictures)} | {k: round(float(v.float().mean()), 4) for k, v in shares.items()}


def sensitivity(classifier: StudioClassifier, exact: Tensor, drawn: Tensor) -> dict[str, object]:
    """KID of one half of exact pictures to others, and `metrics.diversity` of pairs that differ in a known way."""
    generator = torch.Generator().manual_seed(SETTINGS["seed"] + 2)
    first, second = (classifier.images(half) for half in exact.chunk(2))
    small = F.interpolate(F.avg_pool2d(exact, 4), (SIZE, SIZE), mode="bilinear", align_corners=False)
    noisy = exact + 0.1 * torch.randn(exact.shape, generator=generator)
    others = {
        "exact": second,
        "blurred over 4 px": classifier.images(small.chunk(2)[1]),
        "with noise of 0.1": classifier.images(noisy.chunk(2)[1]),
        "of the shipped model": classifier.images(drawn),
    }
    c2w = worlds.look_at(torch.full((8,), 20.0), torch.arange(8) * 45.0)

    def seeds(*objects: str) -> float:
        pictures = [worlds.render(worlds.StudioObject(*name.split()), c2w) for name in objects]
        return round(metrics.diversity(torch.stack([classifier.images(p) for p in pictures])), 3)

    def views(*name: str) -> dict[str, float]:
        features = classifier.images(worlds.render(worlds.StudioObject(*name), c2w))
        both = metrics.janus(features)._asdict() | {"agreement": metrics.agreement(features)}
        return {k: round(v, 3) for k, v in both.items()}

    return {
        "KID": {k: [round(v, 4) for v in metrics.kid(first, other)] for k, other in others.items()},
        "diversity over 8 views": {
            "six one-coloured cubes": seeds(*(f"cube {c} {c}" for c in worlds.COLORS)),
            "six blue shapes": seeds(*(f"{s} blue blue" for s in worlds.SHAPES)),
            "a cube and the same with another back": seeds("cube red red", "cube red blue"),
        },
        "janus and agreement over 8 views": {
            name: views(*name.split()) for name in ("cube red red", "cube red blue", "torus red blue", "cone red blue")
        },
    }


def figures(classifier: StudioClassifier) -> dict[str, object]:
    """On fresh exact pictures, on such made worse, and on pictures of the shipped model named by a PictureBank."""
    generator = torch.Generator().manual_seed(SETTINGS["seed"] + 1)
    pictures, count = Pictures(generator), 3000
    exact, targets = pictures.make(count, worse=False)
    worse, targets_worse = pictures.make(count, worse=True)
    objects = worlds.all_objects()
    requests = [objects[i] for i in torch.randperm(len(objects), generator=generator).tolist()]
    words = [DIRECTIONS[i % 3] for i in range(len(requests))]
    prompts = [f"{obj.caption}, {word} view" for obj, word in zip(requests, words, strict=True)]
    drawn = sample_pictures(models.load(TINY_MODEL), prompts, 2.5, seed=SETTINGS["seed"] + 1)
    nearest, contents = naming.PictureBank().name(drawn), classifier.see(drawn)

    def agree(objects: list[worlds.StudioObject]) -> float:
        # a colour that is not seen contradicts nothing
        same = [
            s.shape == o.shape and {*s.colours} <= {o.front, o.back} for s, o in zip(contents, objects, strict=True)
        ]
        return round(sum(same) / len(same), 4)

    return sensitivity(classifier, exact[:2000], drawn) | {
        "fresh exact pictures": right(classifier, exact, targets),
        "fresh pictures made worse": right(classifier, worsen(worse, generator), targets_worse),
        "pictures of the shipped model": {
            "count": len(requests),
            "guidance_scale": 2.5,
            "shape as the nearest exact picture": round(
                sum(s.shape == o.shape for s, o in zip(contents, nearest, strict=True)) / len(contents), 4
            ),
            "nothing unlike the nearest exact picture": agree(nearest),
            "nothing unlike the caption": agree(requests),
        },
    }


def main() -> None:
    """Trains the classifier if OUT lacks it, and measures it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    torch.manual_seed(SETTINGS["seed"])
    args.out.mkdir(parents=True, exist_ok=True)
    weights = args.out / "model.safetensors"
    if not weights.exists():
        network = Network()
        train(network, args.out / "curve.csv")
        save_file({k: v.contiguous() for k, v in network.state_dict().items()}, weights)
        (args.out / "training.json").write_text(json.dumps(SETTINGS, indent=2) + "\n")
    report = figures(load_studio(args.out))
    (args.out / "figures.json").write_text(json.dumps(report, indent=2) + "\n")
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
