"""One sample on two processes of this CPU: how much faster it is where the denoiser dominates, with one thread each.

    OMP_NUM_THREADS=1 .venv/bin/python benchmarks/devices.py

The denoiser is a UNet of Stable Diffusion 1.x's widths with random weights, at 32² latents, with guidance. What two
processes could gain on this machine is measured beside it: a visit by one process, and by two that share nothing.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

import pullback
import torch
from compare import by_turns
from pullback import models, processes
from pullback.host.training.memory import keep_freed_memory
from spent import spent

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests"))
WIDTHS = (320, 640, 1280, 1280)
TEXT = 768
LATENT = 32


def built(work: Path, widths: tuple[int, ...]) -> Any:
    """A small random model whose UNet is one of these widths."""
    from diffusers import UNet2DConditionModel
    from tiny_pipeline import build  # pyright: ignore[reportMissingImports]

    model: Any = models.load(build(work / "sd", sample_size=LATENT))
    with torch.device("meta"):
        unet = UNet2DConditionModel(
            sample_size=LATENT, block_out_channels=widths, cross_attention_dim=TEXT, attention_head_dim=8
        )
    model.unet = unet.to_empty(device="cpu").eval().requires_grad_(False)
    random = torch.Generator().manual_seed(0)
    for name, value in model.unet.named_parameters():  # faster than the networks' own draws
        value.copy_(torch.ones(()) if "norm" in name else torch.randn(value.shape, generator=random) * 0.01)
    return model


def visit(model: Any, views: int) -> tuple[float, float, int]:
    """Seconds of a sample's second visit, on the wall and on a CPU, and the calls of a visit that this process made.

    In the first a process gets its memory, which launch.py then keeps.
    """
    keep_freed_memory()
    shared: Any = models.Sharded(model) if processes.count() > 1 else model
    text = torch.randn(2, 77, TEXT, generator=torch.Generator().manual_seed(1))
    calls = models.GuidedDenoiser(shared, lambda _: (text[:1], text[1:]), 7.5)
    sampler = pullback.Sampler(
        pullback.diffreps.Pixels(views, 4, LATENT, LATENT), list(range(views)), lambda y, s, v: calls(y, s, v),
        pullback.karras_sigmas(4, 0.3, 10.0), noise="independent", solver=pullback.FirstOrder(steps=20),
        generator=torch.Generator().manual_seed(2),
    )  # fmt: skip
    state = sampler.initial()
    for _ in range(2):
        began, used = time.monotonic(), time.process_time()
        state = sampler.visit(state)
    return time.monotonic() - began, time.process_time() - used, getattr(shared, "views", 4 * views) // 2


def main() -> None:
    from forked import ended, started, together  # pyright: ignore[reportMissingImports]

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--views", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--widths", type=int, nargs=4, default=WIDTHS)
    args = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as temporary:
        work = Path(temporary)
        model = built(work, tuple(args.widths))

        def alone(name: str, count: int) -> tuple[float, float]:
            """Seconds of a visit by each of so many processes that share nothing: the most of them."""

            def act(rank: int) -> int:
                (work / f"{name}.{rank}").write_text(json.dumps(visit(model, args.views)))
                return 0

            assert not any(ended(started(count, work / "said", act)))
            found = [json.loads((work / f"{name}.{rank}").read_text()) for rank in range(count)]
            return max(row[0] for row in found), max(row[1] for row in found)

        def shared() -> tuple[float, float]:
            found = together(2, work / f"two{time.monotonic()}", lambda _: list(visit(model, args.views)))
            assert [row[2] for row in found] == [args.views] * 2  # half of the calls each
            return max(row[0] for row in found), max(row[1] for row in found)

        ways = {"one": lambda: alone("one", 1), "two": lambda: alone("two", 2), "shared": shared}
        rows = by_turns({name: partial(spent, way) for name, way in ways.items()}, args.repeats)
    good = {name: [value for (value, _), cost in found if cost.quiet] for name, found in rows.items()}
    used = {name: [value for (_, value), _ in found] for name, found in rows.items()}
    found = {
        "parameters": sum(value.numel() for value in model.unet.parameters()), "views": args.views,
        "share of the CPUs that others took": {
            name: [round(cost.others, 3) for _, cost in found] for name, found in rows.items()
        },
        "CPU seconds of a visit of one process, of each of two that share nothing, of each of two that share it": [
            [round(value, 2) for value in found] for found in used.values()
        ],
        "CPU of one process, of that of each of two": round(
            statistics.median(used["one"]) / statistics.median(used["shared"]), 2
        ),
    }  # fmt: skip
    if not all(good.values()):
        print(json.dumps(found, indent=1))
        raise SystemExit("others used the machine in every turn; run it again")
    one, two, both = (statistics.median(found) for found in good.values())
    found |= {
        "a visit by one process, s": [round(value, 2) for value in good["one"]],
        "each of two that share nothing, s": [round(value, 2) for value in good["two"]],
        "a visit shared by two, s": [round(value, 2) for value in good["shared"]],
        "the machine gains by a second process": round(2 * one / two, 2), "times faster": round(one / both, 2),
        "of what the machine gains": round(two / 2 / both, 3),
    }  # fmt: skip
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
