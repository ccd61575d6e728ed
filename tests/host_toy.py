"""A host system small enough to train in milliseconds, run as a program: fits a vector to noisy targets.

python tests/host_toy.py --config … is launch.py with `toy-system` and `toy-data` registered. The environment
variable TOY_AT says "step:action", what happens in that training step: see `act`.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import time
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from pullback.errors import ConfigError, NonFiniteError
from pullback.host import find, launch, register
from pullback.host.base import BaseModule, Updateable
from pullback.host.config import parse_structured
from pullback.host.training.systems import BaseSystem
from pullback.seeding import derive_seed
from torch import nn
from torch.utils.data import DataLoader, IterableDataset

CONFIG = """
name: toy
tag: run
use_timestamp: false
exp_root_dir: {root}
seed: 3
data_type: toy-data
data:
  size: 4
system_type: toy-system
system:
  geometry_type: toy-geometry
  geometry:
    size: ${{data.size}}
  prompt: ???
  optimizer:
    name: Adam
    args: {{lr: 0.1}}
    params:
      geometry: {{lr: 0.05}}
trainer:
  max_steps: 6
  log_every_n_steps: 1
  num_sanity_val_steps: 0
  val_check_interval: 4
checkpoint:
  every_n_train_steps: 3
"""


class Draws(IterableDataset, Updateable):
    def __init__(self, size: int) -> None:
        self.size, self.seed, self.step = size, torch.initial_seed(), 0

    def __iter__(self) -> Any:
        while True:
            yield {}

    def collate(self, _: Any) -> dict[str, Any]:
        generator = torch.Generator().manual_seed(derive_seed(self.seed, self.step, "cameras"))
        self.step += 1
        return {"target": torch.randn(self.size, generator=generator), "height": 1}


@register("toy-data")
class ToyData(pl.LightningDataModule):
    @dataclass
    class Config:
        size: int = 2
        n_test_views: int = 2

        def __post_init__(self) -> None:
            if self.n_test_views < 1:
                raise ConfigError("n_test_views", f"must be at least 1, not {self.n_test_views}")

    def __init__(self, cfg: Any = None) -> None:
        super().__init__()
        self.cfg = parse_structured(self.Config, cfg)

    def train_dataloader(self) -> DataLoader:
        data = Draws(self.cfg.size)
        data.step = self.trainer.global_step  # type: ignore[union-attr]
        return DataLoader(data, batch_size=None, collate_fn=data.collate)

    def val_dataloader(self) -> DataLoader:
        return DataLoader([{"index": i} for i in range(self.cfg.n_test_views)])  # type: ignore[arg-type]

    test_dataloader = val_dataloader
    predict_dataloader = val_dataloader


@register("toy-geometry")
class ToyGeometry(BaseModule):
    @dataclass
    class Config(BaseModule.Config):
        size: int = 2
        radius: float = 1.0
        grid_size: int = 8
        axis_range: tuple[float, float] = (0.0, 1.0)

    def configure(self) -> None:
        self.value = nn.Parameter(torch.randn(self.cfg.size))


@register("toy-system")
class ToySystem(BaseSystem):
    @dataclass
    class Config(BaseSystem.Config):
        geometry_type: str = ""
        geometry: dict = field(default_factory=dict)
        prompt: str = ""

    def configure(self) -> None:
        self.geometry = find(self.cfg.geometry_type)(self.cfg.geometry)

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        at, _, action = os.environ.get("TOY_AT", "-1:").partition(":")
        if self.global_step == int(at):
            act(self, action)
        # all three global generators take part, so that a resumed run must have them right
        noise = torch.randn(self.cfg.geometry.size) + float(np.random.rand()) + random.random()
        loss = (self.geometry.value - batch["target"] - 0.1 * noise).square().mean()
        self.log("residual", loss, prog_bar=True)
        return loss

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        torch.rand(7)

    def test_step(self, batch: Any, batch_idx: int) -> None:
        picture = self.geometry.value.sigmoid().reshape(1, -1, 1).expand(16, 4, 3)
        self.save_rgb_image(f"it{self.true_global_step}-test/{int(batch['index'])}.png", picture)

    def on_test_epoch_end(self) -> None:
        name = f"it{self.true_global_step}-test"
        self.save_img_sequence(name, name, r"(\d+)\.png", save_format="mp4", fps=2)
        self.save_json("value.json", self.geometry.value.tolist())

    def predict_step(self, batch: Any, batch_idx: int) -> None:
        self.save_data(f"it{self.true_global_step}-export/value", self.geometry.value)


def act(system: Any, action: str) -> None:
    if action == "nan":
        with torch.no_grad():
            system.geometry.value.fill_(float("nan"))
        raise NonFiniteError("the render is NaN at level 2, sigma 0.5, view 1; lower the learning rate")
    if action == "fail":
        raise ZeroDivisionError("a fault of the program")
    if action == "exit":  # as a scheduler's handler of signals ends a process
        raise SystemExit(75)
    if action in ("term", "int"):
        os.kill(os.getpid(), signal.SIGTERM if action == "term" else signal.SIGINT)
    if action == "wait":  # for a file named go in the run's folder
        print("waiting", flush=True)
        while not os.path.exists(os.path.join(os.path.dirname(system.get_save_dir()), "go")):
            time.sleep(0.01)
    if action == "full":  # a device on which every write finds the disk full
        run = os.path.dirname(system.get_save_dir())
        os.symlink("/dev/full", os.path.join(run, "ckpts", "epoch=0-step=6.ckpt.part"))


if __name__ == "__main__":
    sys.exit(launch.main())
