"""Prints, as JSON, the planned peak of a visit on a CPU and the measured one, in bytes; run in a process of its own."""

from __future__ import annotations

import json
import resource
import sys
from pathlib import Path

import torch
from pullback.evaluate.plan import facts
from pullback.evaluate.plan.facts import MODELS
from pullback.evaluate.plan.measure import Run, measure
from pullback.evaluate.plan.networks import describe
from pullback.evaluate.plan.report import PROMPT
from pullback.host import parts
from pullback.host.config import load_config
from pullback.resources import TINY_CONFIG

SMALL = {"layers_per_block": 1, "norm_num_groups": 16, "block_out_channels": [64, 64, 128, 128]}


def main() -> None:
    """A model of 8 million parameters at 192 px, so that its activations are most of the memory."""
    known = MODELS["sd-1.5"]
    unet, vae = ({**known[f"{part}/config.json"], **SMALL} for part in ("unet", "vae"))
    facts.MODELS["small"] = {**known, "unet/config.json": unet | {"sample_size": 24}, "vae/config.json": vae}
    described = describe("", "small", "x")
    parts.load_parts()
    cfg = load_config(str(TINY_CONFIG), cli_args=[PROMPT, "system.guidance.fit_steps=2", *sys.argv[1:]])
    planned = measure(cfg, described, half=False).peak
    before = int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
    torch.manual_seed(0)
    model = described.model(torch.device("cpu"), torch.float32)
    run = Run(cfg, model, described)
    sampler = run.guidance.sampler(run.field, lambda generator: run.views, run.denoise, run.optimizer, 0)
    sampler.visit(sampler.initial(), run.views)
    measured = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - before
    print(json.dumps({"planned": planned, "measured": measured}))


if __name__ == "__main__":
    main()
