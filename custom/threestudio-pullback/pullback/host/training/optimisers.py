"""Optimisers and learning-rate schedules as blocks of a config."""

from __future__ import annotations

import inspect
from typing import Any

import torch
from torch import nn
from torch.optim import lr_scheduler

from ...errors import UserError, first_line
from ..config import config_path, config_to_primitive
from ..registry import check_keys, suggest


def configured(model: nn.Module, cfg: Any) -> dict[str, Any]:
    """Optimiser and schedule of a config, from its blocks `optimizer` and `scheduler`, in Lightning's form."""
    optimizer = parse_optimizer(config_to_primitive(cfg.optimizer), model, config_path(cfg, "optimizer"))
    if cfg.scheduler is None:
        return {"optimizer": optimizer}
    scheduler = parse_scheduler(config_to_primitive(cfg.scheduler), optimizer, config_path(cfg, "scheduler"))
    return {"optimizer": optimizer, "lr_scheduler": scheduler}


def parse_optimizer(config: dict[str, Any], model: nn.Module, where: str) -> torch.optim.Optimizer:
    """The optimiser a config block describes: {name, args, params}.

    Args:
        config: `name` of a class in torch.optim; `args`, its keywords; `params`, keywords by attribute path. Without
            `params` everything is optimised, with it only what it names.
        model: the module whose parameters are optimised.
        where: config path of the block, for errors.

    Raises:
        UserError: an unknown key, name or path, or a value that the optimiser refuses.
    """
    check_keys(config, ("name", "args", "params"), where)
    name = config.get("name")
    names = [n for n, c in vars(torch.optim).items() if _is_a(c, torch.optim.Optimizer) and n not in _UNFIT]
    if name not in names:
        raise UserError(f"`{where}.name` is {name!r}, which is no optimiser; {suggest(str(name), names)}")
    make: Any = getattr(torch.optim, name)
    common = _keywords(make, config.get("args", {}), f"{where}.args")
    groups: Any = model.parameters()
    if "params" in config:
        if not isinstance(config["params"], dict) or not config["params"]:
            raise UserError(
                f"`{where}.params` should be a block {{geometry: {{lr: 0.01}}, …}}, not {config['params']!r}"
            )
        groups = [
            {"params": _parameters(model, path, where), "name": path}
            | _keywords(make, args or {}, f"{where}.params.{path}", common)
            for path, args in config["params"].items()
        ]
    chosen = {key for args in (common, *(config.get("params") or {}).values()) for key in args or {}}
    if "fused" in inspect.signature(make).parameters and not {"fused", "foreach", "differentiable"} & chosen:
        common = {**common, "fused": True}  # one pass over parameters and moments
    try:
        return make(groups, **common)
    except (TypeError, ValueError) as e:
        raise UserError(f"`{where}.params`: {name} refuses it: {first_line(e)}") from e


# they need a closure, or sparse gradients
_UNFIT = ("LBFGS", "SparseAdam", "Optimizer")


def _is_a(thing: Any, base: type) -> bool:
    return isinstance(thing, type) and issubclass(thing, base)


def _keywords(make: Any, block: Any, where: str, common: dict[str, Any] | None = None) -> dict[str, Any]:
    """The block itself, after an optimiser of one number has taken it: torch does not check the keywords of groups."""
    if not isinstance(block, dict):
        raise UserError(f"`{where}` should be a block of the optimiser's keywords, such as {{lr: 0.01}}, not {block!r}")
    check_keys(block, [k for k in inspect.signature(make).parameters if k not in ("self", "params")], where)
    try:
        make([torch.zeros(1, 1, requires_grad=True)], **{**(common or {}), **block})
    except (TypeError, ValueError, IndexError) as e:
        raise UserError(f"`{where}`: {make.__name__} refuses it: {first_line(e)}") from e
    return block


def _parameters(model: nn.Module, path: str, where: str) -> Any:
    target: Any = model
    for name in path.split("."):
        target = getattr(target, name, None)
    if isinstance(target, nn.Module):
        return list(target.parameters())
    if isinstance(target, nn.Parameter):
        return [target]
    raise UserError(f"`{where}.params.{path}` names no module or parameter of the system")


def parse_scheduler(config: dict[str, Any], optimizer: torch.optim.Optimizer, where: str) -> dict[str, Any]:
    """The learning-rate schedule a config block describes: {name, args, interval: epoch | step}.

    SequentialLR and ChainedScheduler take `schedulers`, a list of such blocks, and SequentialLR also `milestones`.
    """
    interval = config.get("interval", "epoch")
    if interval not in ("epoch", "step"):
        raise UserError(f"`{where}.interval` should be epoch or step, but is {interval!r}")
    return {"scheduler": _scheduler(config, optimizer, where), "interval": interval}


def _scheduler(config: dict[str, Any], optimizer: torch.optim.Optimizer, where: str) -> Any:
    name = config.get("name")
    bases = ("LRScheduler", "_LRScheduler")
    names = [n for n, c in vars(lr_scheduler).items() if _is_a(c, lr_scheduler.LRScheduler) and n not in bases]
    if name not in names:
        raise UserError(f"`{where}.name` is {name!r}, which is no scheduler; {suggest(str(name), names)}")
    inner = [_scheduler(c, optimizer, f"{where}.schedulers[{i}]") for i, c in enumerate(config.get("schedulers", []))]
    try:
        if name == "SequentialLR":
            return lr_scheduler.SequentialLR(optimizer, inner, milestones=config["milestones"])
        if name == "ChainedScheduler":
            return lr_scheduler.ChainedScheduler(inner)
        return getattr(lr_scheduler, str(name))(optimizer, **config.get("args", {}))
    except (TypeError, ValueError, KeyError) as e:
        raise UserError(f"`{where}`: {name} refuses it: {first_line(e)}") from e
