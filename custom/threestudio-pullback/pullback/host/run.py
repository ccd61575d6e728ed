"""One run: checks the config, builds the parts and starts Lightning's trainer."""

from __future__ import annotations

import argparse
import inspect
import os
import time
from functools import partial
from typing import Any, get_type_hints

import torch
from filelock import FileLock
from omegaconf import OmegaConf

from ..errors import UserError, first_line
from ..output import whole
from ..version import __version__, describe
from . import folders, page, several
from .actions import check_source, check_surface
from .arguments import ACTIONS, command, command_line, parse_args
from .base import get_rank, read_checkpoint
from .config import ExperimentConfig, check_parts, check_type, config_to_primitive, load_config, read_yaml
from .devices import choose_device
from .explain import need
from .parts import load_parts
from .quiet import quiet_threads, quieten
from .registry import check_keys, find, info
from .training.memory import keep_freed_memory


class Run:
    """One run of the command line; cheap checks come first."""

    def __init__(self, argv: list[str]) -> None:
        self.argv = argv
        self.imports: list[str] = []
        self.cfg: Any = None
        self.io: Any = None
        self.training = False
        self.blocks: dict[str, Any] = {}
        self.step = 0
        self.device, self.where = torch.device("cpu"), ""
        self.view: Any = None
        self.count, self.gpu = 1, "0"
        self.together: several.Together | None = None
        self._made: list[str] = []

    def __call__(self) -> int:
        """Reads and checks the config, then trains, validates, tests or exports, or has several processes do it.

        Returns:
            The exit status of the processes; 0 without any.

        Raises:
            UserError: the user can mend it.
            NonFiniteError: a NaN or infinity in a render, a model or a fit.
        """
        args, extras = parse_args(self.argv)
        if not args.export:  # whose few large grids would stay beside the mesh
            keep_freed_memory()
        if several.launched() > 1:
            self.together = several.Together()
        self._read(args, extras)
        if self.count > 1 and self.together is None:
            self._check_resume(self.blocks)
            return several.start(command(self.argv), self.count)
        self.device, self.where = choose_device(self.cfg.trainer.get("accelerator", "auto"))
        if self.together is not None:
            self.together.join(self.device)
            self.where = f"{self.count} devices, the first {self.where}"
        seal = self._check_resume(self.blocks)
        if args.view is not None:
            if not args.train:
                raise UserError("--view goes with --train; pullback view RUN shows what a run has made")
            from .live.watch import LiveView

            self.view = LiveView(args.view)
        lock = self._take_folder(args, extras)
        try:
            self._execute(args, seal)
            if not args.validate:
                page.write(self.cfg.trial_dir)
        finally:
            if lock is not None:
                lock.release()
            if self.view is not None:
                self.view.close()
        return 0

    def check(self) -> None:
        """Reads and checks the config alone; UserError where the user can mend it."""
        self._read(*parse_args(self.argv))
        if self.count > 1:
            raise UserError(f"`trainer.devices` must be 1, not {self.count}: such a run is started alone, by launch.py")

    def _read(self, args: argparse.Namespace, extras: list[str]) -> None:
        self.training, self.imports = args.train, args.imports
        if "CUDA_VISIBLE_DEVICES" not in os.environ:
            os.environ["CUDA_DEVICE_ORDER"] = "PCI_BUS_ID"
            os.environ["CUDA_VISIBLE_DEVICES"] = args.gpu
        load_parts(self.imports)
        quieten(args.verbose)
        action = next(name for name in ACTIONS if getattr(args, name))
        cfg = self.cfg = load_config(
            args.config, cli_args=extras, say=info, check=partial(check_source, action, args.config), n_gpus=1
        )
        for part in ("data", "system"):
            find(cfg[f"{part}_type"], f"{part}_type")
        self.gpu = args.gpu
        if args.train or several.launched() > 1:
            self.count = several.wanted(cfg.trainer, args.gpu.split(","))
        if self.count > 1:
            self._check_several(args)
        self.blocks = check_parts(ExperimentConfig, cfg)
        if not cfg.trial_name:
            raise UserError("`tag` must be given where `use_timestamp` is false")
        self._check_keywords()
        check_surface(action, self.blocks.get("system") or {})

    def _check_several(self, args: argparse.Namespace) -> None:
        if not args.train:
            raise UserError(f"only --train takes {self.count} devices; start one process, without torchrun")
        if args.view is not None:
            raise UserError(f"--view shows a run on one device, not {self.count}; leave one of the two out")
        several.check_system(find(self.cfg.system_type), self.cfg.system_type, self.count)

    def resume_line(self) -> str | None:
        """The shell command that continues from the newest checkpoint; None where there is no checkpoint."""
        if not self.training or self.io is None or self.io.newest is None:
            return None
        config = os.path.join(self.cfg.trial_dir, "configs", "parsed.yaml")
        options = [word for name in self.imports for word in ("--import", name)]
        options += ["--gpu", self.gpu] * ("," in self.gpu)
        return command_line(["--config", config, *options, "--train", f"resume={self.io.newest}"])

    def leave_nothing(self) -> None:
        """Removes the folders that this run has made, unless it has results: for a run that was refused."""
        if self._made and os.path.isdir(self._made[0]):
            folders.remove_without_results(self._made)

    def _check_resume(self, blocks: dict[str, Any]) -> dict[str, Any]:
        from .training.checkpoint import check_belongs, signature

        mine = signature(self.cfg.system_type, blocks["system"])
        if self.cfg.resume is not None:
            content = read_checkpoint(self.cfg.resume, "resume")
            if self.training and not {"optimizer_states", "loops"} <= content.keys():
                raise UserError(
                    f"`resume`: {self.cfg.resume} holds parameters only and cannot be resumed; "
                    f"start from it with system.weights={self.cfg.resume}"
                )
            check_belongs(content, self.cfg.resume, mine, self.training)
            self.step = content["global_step"]
        return {"version": __version__, "config": mine}

    def _take_folder(self, args: argparse.Namespace, words: list[str]) -> FileLock | None:
        """Makes the run's folder, a new one where the time of the start names it, and holds it for training."""
        cfg = self.cfg
        if self.together is not None and self.together.rank:
            cfg.trial_dir = self.together.scratch()
            return None
        written: Any = OmegaConf.to_container(read_yaml(args.config), resolve=False)
        given = any(word.startswith("timestamp=") for word in words) or written.get("timestamp")
        if own := folders.of_own_config(args.config, cfg.resume, words):
            cfg.trial_dir = own
        missing = folders.absent(cfg.trial_dir)
        if not own and cfg.timestamp and not given:
            new = folders.make_new(cfg.trial_dir)
            missing = [new, *missing[1:]]
            cfg.timestamp += new.removeprefix(cfg.trial_dir)
            cfg.trial_name, cfg.trial_dir = os.path.basename(new), new
        self._made = missing
        folders.make_writable(cfg.trial_dir)
        if not args.train:
            return None  # a run that trains may be looked at
        lock = folders.hold(cfg.trial_dir, "wait for it or stop it, or set another `tag`")
        if lock is not None:
            whole.clear(cfg.trial_dir)
        return lock

    def _check_keywords(self) -> None:
        import pytorch_lightning as pl
        from pytorch_lightning.callbacks import ModelCheckpoint

        taken = {"self", "callbacks", "logger", "plugins", "inference_mode", "default_root_dir", "dirpath"}
        for block, cls in (("trainer", pl.Trainer), ("checkpoint", ModelCheckpoint)):
            check_keys(
                self.cfg[block], [k for k in inspect.signature(cls.__init__).parameters if k not in taken], block
            )
            types = get_type_hints(cls.__init__)
            for key, value in self.cfg[block].items():
                check_type(f"{block}.{key}", types[key], value)
        name = self.cfg.checkpoint.get("filename") or "last"
        if not folders.lies_in(os.path.join("ckpts", name), "ckpts"):
            raise UserError(f"`checkpoint.filename` must name a file below the run's folder ckpts, not {name!r}")
        trainer = self.cfg.trainer
        if trainer.get("num_nodes", 1) != 1:
            raise UserError(f"`trainer.num_nodes` must be 1, not {trainer.num_nodes!r}; torchrun joins machines")
        for key in ("val_check_interval", "check_val_every_n_epoch"):
            if trainer.get(key, 1) == 0:
                raise UserError(f"`trainer.{key}` must be above 0; trainer.limit_val_batches=0 turns validation off")

    def _execute(self, args: argparse.Namespace, seal: dict[str, Any]) -> None:
        import pytorch_lightning as pl

        from .training.callbacks import SafeStop
        from .training.checkpoint import AtomicCheckpointIO
        from .training.resuming import Resuming

        cfg, began = self.cfg, time.monotonic()
        self.io = AtomicCheckpointIO(os.path.join(cfg.trial_dir, "ckpts"))
        if cfg.resume is not None:
            self.io.newest = cfg.resume
        elsewhere = cfg.resume is not None and not folders.lies_in(cfg.resume, cfg.trial_dir)
        info(
            f"{describe()}, on {self.where}; files go to {cfg.trial_dir}"
            + ", which is not the checkpoint's folder" * elsewhere
        )
        with quiet_threads(), SafeStop(self.io, os.path.join(cfg.trial_dir, "ckpts", "last.ckpt"), seal) as stop:
            pl.seed_everything(self.seed, workers=True, verbose=False)
            data = find(cfg.data_type)(cfg.data)
            system = find(cfg.system_type)(cfg.system, resumed=cfg.resume is not None)
            system.set_save_dir(os.path.join(cfg.trial_dir, "save"))
            resuming = Resuming(cfg.resume, self.step)
            trainer = self._trainer(args, system, stop, resuming)
            with resuming:
                if args.train:
                    resuming.catch_up(trainer, system, data)
                    pl.seed_everything(self.seed, workers=True, verbose=False)
                    trainer.fit(system, datamodule=data, ckpt_path=cfg.resume)
                    if cfg.resume is not None and trainer.global_step == self.step:
                        info(
                            f"The run is complete: {cfg.resume} is its last step, {self.step}; the test views are "
                            "rendered again, and another sample needs another `seed`, without resume="
                        )
                    trainer.test(system, datamodule=data)
                    info(f"The run took {time.monotonic() - began:.0f} s")
                    return
                if cfg.resume is not None:
                    content = read_checkpoint(cfg.resume, "resume")
                    system.set_resume_status(content["epoch"], content["global_step"])
                act = trainer.validate if args.validate else trainer.test if args.test else trainer.predict
                act(system, datamodule=data, ckpt_path=cfg.resume)

    @property
    def seed(self) -> int:
        """Of this process's draws; the same in all processes of one sample."""
        return self.cfg.seed + (get_rank() if self.count == 1 else 0)

    def _trainer(self, args: argparse.Namespace, system: Any, stop: Any, resuming: Any) -> Any:
        import pytorch_lightning as pl
        from pytorch_lightning.callbacks import ModelCheckpoint

        from .training.callbacks import Begun, ConfigSnapshot, ProgressLine, StepSeed
        from .training.logs import Csv, LearningRate, TensorBoard

        cfg = self.cfg
        if args.train or args.test:
            need("imageio_ffmpeg")  # its turntable is written last
        callbacks: list[Any] = [Begun(), resuming]
        loggers: list[Any] = []
        settings = {"devices": 1, "enable_model_summary": False, **config_to_primitive(cfg.trainer)}
        settings["accelerator"] = self.device.type
        settings |= {"devices": 1} if self.together is None else several.settings()
        try:
            if args.train:
                keep = {"save_last": True, "enable_version_counter": False, **config_to_primitive(cfg.checkpoint)}
                folder = os.path.join(cfg.trial_dir, "configs")
                callbacks += [
                    ConfigSnapshot(args.config, cfg, folder),
                    StepSeed(self.seed),
                    LearningRate(logging_interval="step"),
                    stop,
                    ModelCheckpoint(dirpath=os.path.join(cfg.trial_dir, "ckpts"), **keep),
                ]
                if self.view is not None:
                    callbacks.append(self.view.of(stop))
                if settings.get("enable_progress_bar", True):
                    callbacks.append(ProgressLine())
                need("tensorboard")
                loggers = [
                    TensorBoard(cfg.trial_dir, name="tb_logs"),
                    Csv(cfg.trial_dir, name="csv_logs"),
                    *system.get_loggers(),
                ]
                told = f"{command_line(self.argv)}\n{describe()}\nin {os.getcwd()}\n"
                whole.write(os.path.join(cfg.trial_dir, "cmd.txt"), told)
            else:
                settings["enable_progress_bar"] = False
            return pl.Trainer(callbacks=callbacks, logger=loggers, plugins=[self.io], inference_mode=False, **settings)
        except (TypeError, ValueError) as e:
            raise UserError(f"`trainer` or `checkpoint`: {first_line(e)}") from e
