"""`python launch.py --config … --train|--validate|--test|--export key=value …`"""

from __future__ import annotations

import argparse
import contextlib
import errno
import importlib
import importlib.util
import inspect
import logging
import os
import pkgutil
import re
import signal
import sys
import tempfile
import threading
import traceback
import warnings
from collections.abc import Iterator, Sequence
from typing import Any, NoReturn, get_type_hints

import torch

from ..errors import NonFiniteError, UserError, first_line
from ..version import __version__, describe
from .base import get_rank, read_checkpoint
from .config import ExperimentConfig, check_parts, check_type, config_to_primitive, load_config
from .invocation import command_line
from .registry import find, info, logger, suggest
from .training.memory import keep_freed_memory

_PIP_NAMES = {
    "PIL": "pillow",
    "imageio_ffmpeg": "imageio-ffmpeg",
    "skimage": "scikit-image",
    "yaml": "pyyaml",
    "pytorch_lightning": "pytorch-lightning",
}


class _Stdout(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        print(self.format(record), flush=True)


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UserError(f"{message}; see --help")


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command line; returns the exit status.

    0 done · 1 the run failed (a NaN, or a fault of the program, with its traceback) · 2 the user can mend it:
    one line on stderr says how · 130 and 143 stopped by Ctrl-C and SIGTERM.
    """
    argv = list(sys.argv[1:] if argv is None else argv)
    verbose = "--verbose" in argv
    keep_freed_memory()
    run = Run(argv)
    try:
        run()
        return 0
    except SystemExit as e:  # argparse's --help
        return int(e.code or 0)
    except BaseException as e:
        told = explain(e)
        if verbose or told is None:
            traceback.print_exc()
        sentence, status = told or (f"{type(e).__name__}: {first_line(e)}", 1)
        if isinstance(e, Exception) or not run.resume_line():
            print("error: " + re.sub(r"\s+", " ", sentence), file=sys.stderr)
        if status != 2 and run.resume_line():
            print(f"The last whole step is saved; to go on from there:\n  {run.resume_line()}")
        return status


def explain(error: BaseException) -> tuple[str, int] | None:
    """A sentence and an exit status; None for a fault of the program."""
    # the class lives in a module that needs Lightning
    signum = getattr(error, "signum", signal.SIGINT if isinstance(error, KeyboardInterrupt) else None)
    if signum is not None:
        return f"stopped by {signal.Signals(signum).name}", 128 + signum
    if isinstance(error, UserError):
        return str(error), 2
    if isinstance(error, NonFiniteError):
        return str(error), 1
    if isinstance(error, torch.cuda.OutOfMemoryError):
        return (
            f"out of GPU memory ({first_line(error)}); lower `data.batch_size`, `data.width`, `data.height`",
            1,
        )
    if isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and "can't allocate memory" in str(error)):
        return (
            "out of memory; lower `data.batch_size`, `data.width`, `data.height` or the size of `system.geometry`",
            1,
        )
    if isinstance(error, ModuleNotFoundError) and error.name and not error.name.startswith("pullback"):
        package = error.name.partition(".")[0]
        return (
            f"the package '{package}' is missing; install it: pip install {_PIP_NAMES.get(package, package)}",
            2,
        )
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES):
        path = error.filename2 or error.filename  # of a copy, the second
        what = f"cannot write {path}" if path else "cannot write a file of the run"
        return (
            f"{what}: {error.strerror}; free space or set `exp_root_dir`; checkpoints written are whole",
            2,
        )
    if type(error).__name__ == "MisconfigurationException":
        return f"`trainer`: {first_line(error)}", 2
    if type(error).__name__ == "MissingMandatoryValue":
        key = getattr(error, "full_key", "") or "a value"
        return f"`{key}` must be given: set it in the config file or on the command line as {key}=…", 2
    return None


def load_parts() -> None:
    """Imports every part of the host and every adapter, which fills the registry."""
    package = importlib.import_module("pullback.host")
    for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
        importlib.import_module(module.name)
    importlib.import_module("pullback.adapters._framework").load_adapters()


class Run:
    """One run of the command line, step by step, cheap checks first."""

    def __init__(self, argv: list[str]) -> None:
        self.argv = argv
        self.cfg: Any = None
        self.io: Any = None
        self.training = False

    def __call__(self) -> None:
        args, extras = parse_args(self.argv)
        self.training = args.train
        if "CUDA_VISIBLE_DEVICES" not in os.environ:
            os.environ["CUDA_DEVICE_ORDER"] = "PCI_BUS_ID"
            os.environ["CUDA_VISIBLE_DEVICES"] = args.gpu
        load_parts()
        quieten(args.verbose)
        cfg = self.cfg = load_config(args.config, cli_args=extras, n_gpus=1)
        if cfg.trainer.get("accelerator") == "cpu":
            os.environ["CUDA_VISIBLE_DEVICES"] = ""  # parts are built on the GPU where one is seen
        for part in ("data", "system"):
            find(cfg[f"{part}_type"], f"{part}_type")
        blocks = check_parts(ExperimentConfig, cfg)
        if not cfg.trial_name:
            raise UserError("`tag` must be given where `use_timestamp` is false")
        seal = self._check_resume(blocks)
        self._check_keywords()
        make_writable(cfg.trial_dir)
        self._execute(args, seal)

    def resume_line(self) -> str | None:
        """The command that goes on from the newest checkpoint, or None where there is none."""
        if not self.training or self.io is None or self.io.newest is None:
            return None
        config = os.path.join(self.cfg.trial_dir, "configs", "parsed.yaml")
        return command_line(["--config", config, "--train", f"resume={self.io.newest}"])

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
        return {"version": __version__, "config": mine}

    def _check_keywords(self) -> None:
        import pytorch_lightning as pl
        from pytorch_lightning.callbacks import ModelCheckpoint

        taken = {"self", "callbacks", "logger", "plugins", "inference_mode", "default_root_dir", "dirpath"}
        for block, cls in (("trainer", pl.Trainer), ("checkpoint", ModelCheckpoint)):
            known = [k for k in inspect.signature(cls.__init__).parameters if k not in taken]
            types = get_type_hints(cls.__init__)
            for key, value in self.cfg[block].items():
                if key not in known:
                    raise UserError(f"unknown key `{block}.{key}`; {suggest(str(key), known)}")
                check_type(f"{block}.{key}", types[key], value)
        trainer = self.cfg.trainer
        for key in ("devices", "num_nodes"):
            if trainer.get(key, 1) != 1:
                raise UserError(
                    f"`trainer.{key}` must be 1, not {trainer[key]!r}: a run samples on one device; see --gpu"
                )
        for key in ("val_check_interval", "check_val_every_n_epoch"):
            if trainer.get(key, 1) == 0:
                raise UserError(f"`trainer.{key}` must be above 0; trainer.limit_val_batches=0 turns validation off")

    def _execute(self, args: argparse.Namespace, seal: dict[str, Any]) -> None:
        import pytorch_lightning as pl

        from .training.callbacks import SafeStop
        from .training.checkpoint import AtomicCheckpointIO

        cfg = self.cfg
        self.io = AtomicCheckpointIO()
        if cfg.resume is not None:
            self.io.newest = cfg.resume
        info(f"{describe()}; files go to {cfg.trial_dir}")
        with quiet_threads(), SafeStop(self.io, os.path.join(cfg.trial_dir, "ckpts", "last.ckpt"), seal) as stop:
            pl.seed_everything(cfg.seed + get_rank(), workers=True, verbose=False)
            data = find(cfg.data_type)(cfg.data)
            system = find(cfg.system_type)(cfg.system, resumed=cfg.resume is not None)
            system.set_save_dir(os.path.join(cfg.trial_dir, "save"))
            trainer = self._trainer(args, system, stop)
            try:
                if args.train:
                    trainer.fit(system, datamodule=data, ckpt_path=cfg.resume)
                    trainer.test(system, datamodule=data)
                    return
                if cfg.resume is not None:
                    content = read_checkpoint(cfg.resume, "resume")
                    system.set_resume_status(content["epoch"], content["global_step"])
                act = trainer.validate if args.validate else trainer.test if args.test else trainer.predict
                act(system, datamodule=data, ckpt_path=cfg.resume)
            except RuntimeError as e:
                if "Error(s) in loading state_dict" not in str(e):
                    raise
                detail = " ".join(line.strip() for line in str(e).splitlines()[1:2])
                raise UserError(f"`resume`: {cfg.resume} does not fit this config: {detail}") from e

    def _trainer(self, args: argparse.Namespace, system: Any, stop: Any) -> Any:
        import pytorch_lightning as pl
        from pytorch_lightning.callbacks import LearningRateMonitor, ModelCheckpoint
        from pytorch_lightning.loggers import CSVLogger, TensorBoardLogger

        from .training.callbacks import ConfigSnapshot, ProgressLine, StepSeed

        cfg = self.cfg
        if args.train or args.test:
            need("imageio_ffmpeg")  # its turntable is written last
        callbacks: list[Any] = []
        loggers: list[Any] = []
        settings = {"accelerator": "auto", "devices": 1, "enable_model_summary": False}
        settings |= config_to_primitive(cfg.trainer)
        try:
            if args.train:
                keep = {
                    "save_last": True,
                    "enable_version_counter": False,
                    **config_to_primitive(cfg.checkpoint),
                }
                folder = os.path.join(cfg.trial_dir, "configs")
                callbacks = [
                    ConfigSnapshot(args.config, cfg, folder),
                    StepSeed(cfg.seed + get_rank()),
                    LearningRateMonitor(logging_interval="step"),
                    stop,
                    ModelCheckpoint(dirpath=os.path.join(cfg.trial_dir, "ckpts"), **keep),
                ]
                if settings.get("enable_progress_bar", True):
                    callbacks.append(ProgressLine())
                need("tensorboard")
                loggers = [
                    TensorBoardLogger(cfg.trial_dir, name="tb_logs"),
                    CSVLogger(cfg.trial_dir, name="csv_logs"),
                    *system.get_loggers(),
                ]
                with open(os.path.join(cfg.trial_dir, "cmd.txt"), "w") as f:
                    f.write(f"{command_line(self.argv)}\n{describe()}\n")
            else:
                settings["enable_progress_bar"] = False
            return pl.Trainer(callbacks=callbacks, logger=loggers, plugins=[self.io], inference_mode=False, **settings)
        except (TypeError, ValueError) as e:
            raise UserError(f"`trainer` or `checkpoint`: {first_line(e)}") from e


def parse_args(argv: Sequence[str]) -> tuple[argparse.Namespace, list[str]]:
    """The command line, and the key=value overrides on it."""
    parser = _Parser(
        prog="launch.py",
        description="Train, validate, test or export what a config describes.",
        epilog="With --threestudio DIR, the threestudio of that folder runs instead of the bundled host, on a CPU.",
    )
    parser.add_argument("--config", required=True, help="YAML file")
    parser.add_argument("--gpu", default="0", help="number of the GPU; ignored where CUDA_VISIBLE_DEVICES is set")
    group = parser.add_mutually_exclusive_group(required=True)
    for action in ("train", "validate", "test", "export"):
        group.add_argument(f"--{action}", action="store_true")
    parser.add_argument("--verbose", action="store_true", help="log more, and show tracebacks")
    args, extras = parser.parse_known_args(argv)
    if not args.gpu.isdigit():
        raise UserError(f"--gpu takes the number of one GPU, not '{args.gpu}'")
    return args, extras


def quieten(verbose: bool) -> None:
    """Our own messages on stdout; Lightning's, which sets its level when imported, only with `verbose`."""
    logger.setLevel(logging.DEBUG if verbose else logging.INFO)
    if not logger.handlers:
        logger.addHandler(_Stdout())
    if verbose:
        return
    for name in ("pytorch_lightning", "lightning.pytorch", "lightning.fabric", "lightning_fabric"):
        logging.getLogger(name).setLevel(logging.ERROR)
    for category in (DeprecationWarning, FutureWarning):
        warnings.simplefilter("ignore", category)
    warnings.filterwarnings("ignore", module="(pytorch_)?lightning")


def need(package: str) -> None:
    """Raises ModuleNotFoundError now rather than after hours of training."""
    if importlib.util.find_spec(package) is None:
        raise ModuleNotFoundError(package, name=package)


@contextlib.contextmanager
def quiet_threads() -> Iterator[None]:
    """A writer thread that meets a full disk says nothing: its owner raises the same error in the main thread."""

    def tell(args: Any) -> None:
        if not isinstance(args.exc_value, OSError):
            before(args)

    before, threading.excepthook = threading.excepthook, tell
    try:
        yield
    finally:
        threading.excepthook = before


def make_writable(folder: str) -> None:
    """Makes the run's folder and tries it out.

    Raises:
        UserError: it cannot be made or written to.
    """
    try:
        os.makedirs(folder, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as f:
            f.write(b"\0")
    except OSError as e:
        raise UserError(
            f"cannot write to the output folder {folder}: {e.strerror}; set another `exp_root_dir` or `tag`"
        ) from e
