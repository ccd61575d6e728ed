"""Base systems on Lightning: hooks, steps, optimisers and the parts of a scene, as threestudio has them."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partialmethod
from typing import Any, List  # noqa: UP035

import pytorch_lightning as pl
import torch

from ...errors import UserError, check_schedule
from ...version import describe
from .. import page
from ..base import Updateable, load_module_weights, load_state
from ..config import C, config_path, config_to_primitive, parse_structured
from ..registry import find, info, warn
from .optimisers import configured
from .saving import SaverMixin

_LOADERS = {  # the trainer's attribute for the loader of each stage
    "train": "train_dataloader",
    "validation": "val_dataloaders",
    "test": "test_dataloaders",
    "predict": "predict_dataloaders",
}


class BaseSystem(pl.LightningModule, Updateable, SaverMixin):
    """A training procedure; subclasses write training_step, validation_step and test_step.

    Before every batch: `preprocess_data`, then the dataset's and the system's `update_step`.
    """

    role = "system"

    @dataclass
    class Config:
        loggers: dict = field(default_factory=dict)
        loss: dict = field(default_factory=dict)
        optimizer: dict = field(default_factory=dict)
        scheduler: dict | None = None
        weights: str | None = None
        weights_ignore_modules: List[str] | None = None  # noqa: UP006
        cleanup_after_validation_step: bool = False
        cleanup_after_test_step: bool = False

        def __post_init__(self) -> None:
            for name, weight in self.loss.items():
                check_schedule(f"loss.{name}", weight)

    cfg: Any

    def __init__(self, cfg: Any, resumed: bool = False) -> None:
        super().__init__()
        self.cfg = parse_structured(self.Config, cfg)
        self._save_dir: str | None = None
        self._resumed = resumed
        self._resumed_at: tuple[int, int] | None = None
        self._initial_seed = torch.initial_seed()  # the run's; each step has one of its own
        self.configure()
        if self.cfg.weights is not None:
            self.load_weights(self.cfg.weights, self.cfg.weights_ignore_modules)
        self.post_configure()

    def configure(self) -> None:
        """Override: build the parts."""

    def post_configure(self) -> None:
        """Override: runs after `weights` are loaded."""

    def load_weights(self, weights: str, ignore_modules: list[str] | None = None) -> None:
        """Starts from a checkpoint's parameters; what it lacks keeps its values.

        Raises:
            UserError: A tensor has another shape, or no parameter of this run is in the checkpoint.
        """
        where = config_path(self.cfg, "weights")
        state, epoch, step = load_module_weights(weights, ignore_modules=ignore_modules, where=where)
        load_state(self, state, f"`{where}` ({weights})", strict=False)
        wanted = [name for name, _ in self.named_parameters()]
        found = [name for name in wanted if name in state]
        if wanted and not found:
            theirs = sorted({name.partition(".")[0] for name in state}) or ["nothing"]
            raise UserError(
                f"`{where}`: {weights} holds none of this run's {len(wanted)} parameters, such as {wanted[0]}, but "
                f"{', '.join(theirs)}; take a checkpoint of a run with the same kinds of parts"
            )
        fresh = [name for name in wanted if name not in state]
        rest = f"; {', '.join(fresh[:3])}{', …' * (len(fresh) > 3)} start anew" if fresh else ""
        info(f"{weights} gives {len(found)} of {len(wanted)} parameters{rest}")
        self.do_update_step(epoch, step, on_load_weights=True)

    def set_resume_status(self, current_epoch: int, global_step: int) -> None:
        """Sets epoch and step to those of the checkpoint that is validated, tested or exported."""
        self._resumed_at = (current_epoch, global_step)

    def forget_resume_status(self) -> None:
        """From now on epoch and step are the trainer's."""
        self._resumed_at = None

    @property
    def resumed(self) -> bool:
        """Whether the run starts from a checkpoint of an earlier one."""
        return self._resumed

    @property
    def true_current_epoch(self) -> int:
        """The epoch, also where a checkpoint is validated, tested or exported."""
        return self._resumed_at[0] if self._resumed_at else self.current_epoch

    @property
    def true_global_step(self) -> int:
        """The step, also where a checkpoint is validated, tested or exported."""
        return self._resumed_at[1] if self._resumed_at else self.global_step

    def C(self, value: Any) -> float:
        """A schedule's value now; see `config.C`."""
        return C(value, self.true_current_epoch, self.true_global_step)

    def get_loggers(self) -> list[Any]:
        """Override: loggers beside the CSV and TensorBoard ones."""
        wandb = config_to_primitive(self.cfg.loggers).get("wandb")
        if wandb.get("enable") if isinstance(wandb, dict) else wandb:
            where = config_path(self.cfg, "loggers.wandb.enable")
            raise UserError(f"`{where}` must be false: the bundled host logs to CSV and TensorBoard only")
        return []

    def configure_optimizers(self) -> Any:
        """Optimiser and schedule of the config."""
        return configured(self, self.cfg)

    def preprocess_data(self, batch: Any, stage: str) -> None:
        """Override: change the batch in place; stage is train, validation, test or predict."""

    def _before_batch(self, stage: str, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
        self.preprocess_data(batch, stage)
        # as a public attribute it is updated with the system's parts
        self.dataset = getattr(self.trainer, _LOADERS[stage]).dataset
        self.do_update_step(self.true_current_epoch, self.true_global_step)

    def _after_batch(self, stage: str, *_: Any) -> None:
        self.do_update_step_end(self.true_current_epoch, self.true_global_step)
        cleanup = {"train": False, "validation": self.cfg.cleanup_after_validation_step}
        if cleanup.get(stage, self.cfg.cleanup_after_test_step) and torch.cuda.is_available():
            torch.cuda.empty_cache()

    on_train_batch_start: Any = partialmethod(_before_batch, "train")
    on_validation_batch_start: Any = partialmethod(_before_batch, "validation")
    on_test_batch_start: Any = partialmethod(_before_batch, "test")
    on_predict_batch_start: Any = partialmethod(_before_batch, "predict")
    on_train_batch_end: Any = partialmethod(_after_batch, "train")
    on_validation_batch_end: Any = partialmethod(_after_batch, "validation")
    on_test_batch_end: Any = partialmethod(_after_batch, "test")
    on_predict_batch_end: Any = partialmethod(_after_batch, "predict")


class BaseLift3DSystem(BaseSystem):
    """A system whose scene is geometry, material, background and renderer, each named by the config."""

    @dataclass
    class Config(BaseSystem.Config):
        geometry_type: str = ""
        geometry: dict = field(default_factory=dict)
        geometry_convert_from: str | None = None
        geometry_convert_inherit_texture: bool = False
        geometry_convert_override: dict = field(default_factory=dict)
        material_type: str = ""
        material: dict = field(default_factory=dict)
        background_type: str = ""
        background: dict = field(default_factory=dict)
        renderer_type: str = ""
        renderer: dict = field(default_factory=dict)
        guidance_type: str = ""
        guidance: dict = field(default_factory=dict)
        prompt_processor_type: str = ""
        prompt_processor: dict = field(default_factory=dict)
        exporter_type: str = "mesh-exporter"
        exporter: dict = field(default_factory=dict)

    def configure(self) -> None:
        """Builds geometry, material, background and renderer."""
        if self.cfg.geometry_convert_from:
            where, weights = (config_path(self.cfg, key) for key in ("geometry_convert_from", "weights"))
            raise UserError(
                f"`{where}` must be null: converting an earlier run's geometry needs threestudio; `{weights}` "
                "starts from its parameters"
            )
        self.geometry = self._build("geometry")
        self.material = self._build("material")
        self.background = self._build("background")
        self.renderer = self._build("renderer", **self._scene)

    def origin(self) -> dict[str, Any]:
        """Prompt, seed and version, for the metadata of files."""
        prompt = str(self.cfg.prompt_processor.get("prompt", ""))
        return {"prompt": prompt, "seed": self._initial_seed, "version": describe()}

    @property
    def _scene(self) -> dict[str, Any]:
        return {"geometry": self.geometry, "material": self.material, "background": self.background}

    def _build(self, part: str, **kwargs: Any) -> Any:
        kind = f"{part}_type"
        return find(self.cfg[kind], config_path(self.cfg, kind))(self.cfg[part], **kwargs)

    def on_fit_start(self) -> None:
        """Says where pictures go."""
        if self._save_dir is None:
            warn("no save folder is set, pictures will not be saved")
        else:
            info(f"Pictures go to {self._save_dir}")

    def on_test_end(self) -> None:
        """Writes the mesh for the run's page, and says where the results are."""
        page.save_mesh(self)
        info(f"Test results are in {self._save_dir}")

    def on_predict_start(self) -> None:
        """Builds the exporter."""
        self.exporter = self._build("exporter", **self._scene)

    def predict_step(self, batch: Any, batch_idx: int) -> None:
        """Renders the view where the exporter's `save_video` asks for it."""
        if self.exporter.cfg.save_video:
            self.test_step(batch, batch_idx)

    def on_predict_epoch_end(self) -> None:
        """Writes the video, where it is asked for, and the exporter's files."""
        if self.exporter.cfg.save_video:
            self.on_test_epoch_end()
        for output in self.exporter():
            save = getattr(self, f"save_{output.save_type}")
            info(f"Exported {save(f'it{self.true_global_step}-export/{output.save_name}', **output.params)}")
