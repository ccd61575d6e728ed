"""Checkpoints of a scene between real threestudio and the bundled host, in both directions."""

from __future__ import annotations

from collections.abc import Callable

import torch
from conftest import Run, Threestudio
from omegaconf import OmegaConf
from pullback.host.base import load_module_weights, load_state
from pullback.host.parts import load_parts
from pullback.host.registry import find
from torch import nn

SDS = "configs/dreamfusion-sd.yaml"
PARTS = ("geometry", "background")


def test_a_scene_goes_to_the_host_and_back(launch: Callable[..., Run], threestudio: Threestudio) -> None:
    options = (*threestudio.small_hash_grid, "checkpoint.every_n_train_steps=1", "trainer.max_steps=1")
    run = launch(SDS, "--train", *options)
    load_parts()
    config = OmegaConf.load(run.trial / "configs" / "parsed.yaml").system
    made = nn.ModuleDict({part: find(config[f"{part}_type"])(config[part]) for part in PARTS})
    state, _, step = load_module_weights(str(run.checkpoint))
    theirs = {name: value for name, value in state.items() if name.startswith(PARTS)}
    load_state(made, dict(theirs), "threestudio's checkpoint")
    assert step == 1 and made.state_dict().keys() == theirs.keys()
    assert {
        "geometry.encoding.encoding.encoding.params",
        "background.encoding.encoding.encoding.params",
    } <= theirs.keys()

    with torch.no_grad():
        for parameter in made.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(len(parameter))))
    ours = {name: value.clone() for name, value in made.state_dict().items()}
    path = run.trial.parent / "host.ckpt"
    torch.save({"state_dict": ours, "epoch": 0, "global_step": 0}, path)
    # threestudio loads a part's weights strictly: a name too few or too many would end the run
    run = launch(SDS, "--train", *options, *(f"system.{part}.weights={path}:{part}" for part in PARTS))
    newest = max(run.checkpoint.parent.glob("*.ckpt"), key=lambda file: file.stat().st_mtime)
    after = torch.load(newest, weights_only=True)["state_dict"]
    for name, value in ours.items():
        assert float((after[name] - value).abs().max() if value.numel() else 0) < 0.1, name  # one step of Adam at 0.01
