"""Errors that the user can mend: one sentence each, shown without a traceback, exit status 2."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from itertools import islice
from typing import Any, cast

import torch
from torch import Tensor


class UserError(Exception):
    """Bad input. The message is one sentence, without a full stop: what is wrong, where, and what to do."""


class ConfigError(UserError, ValueError):
    """A value that a block of a config must not have; for `__post_init__` of a config's dataclass.

    The bundled host puts the block's path in front: "`system.geometry.radius` must be above 0, not -1".

    Args:
        key: The key within the block, dotted where it lies deeper.
        message: What follows the key, such as "must be above 0, not -1".
    """

    def __init__(self, key: str, message: str) -> None:
        super().__init__(key, message)  # both, so that the error can be sent between processes
        self.key, self.message = key, message

    def __str__(self) -> str:
        return f"`{self.key}` {self.message}"


def check_at_least(cfg: object, least: float, *keys: str) -> None:
    """Checks values of a config.

    Args:
        cfg: The config's dataclass.
        least: The least value allowed.
        *keys: Fields of the config.

    Raises:
        ConfigError: A value is below `least`; the error names the first such key.
    """
    for key in keys:
        if not getattr(cfg, key) >= least:
            raise ConfigError(key, f"must be at least {least}, not {getattr(cfg, key)}")


def check_schedule(key: str, value: Any, low: float = -math.inf, high: float = math.inf) -> None:
    """Checks a value that may change over a run.

    Args:
        key: The key within its block.
        value: A number, or [start, v0, v1, end] (start may be left out), or [start, v0, v1, s1, v2, s2, …].
        low: The least value allowed, of all that the schedule takes.
        high: The largest.

    Raises:
        ConfigError: It is no schedule, or leaves the range.
    """
    knots: list[Any] = [value]
    values: list[Any] = [value]
    if isinstance(value, Sequence) and not isinstance(value, str):
        knots = list(cast("Sequence[Any]", value))
        knots = [0, *knots] if len(knots) == 3 else knots
        values = [knots[1], *knots[2::2]] if len(knots) >= 4 and len(knots) % 2 == 0 else [None]
    if not all(type(v) in (int, float) for v in [*knots, *values]) or not all(low <= v <= high for v in values):
        least = f" of at least {low:g}" if math.isfinite(low) else ""
        range_ = f"lie between {low:g} and {high:g}" if math.isfinite(high) else f"be a number{least}"
        raise ConfigError(key, f"must {range_}, or be a schedule [start, value, value, end] of such, not {value!r}")


_EXTRAS = frozenset([
    "PIL", "accelerate", "diffusers", "fast_simplification", "filelock", "huggingface_hub", "imageio",
    "imageio_ffmpeg", "jinja2", "jsonschema", "manifold3d", "markupsafe", "nerfacc", "numpy", "omegaconf",
    "pytorch_lightning", "safetensors", "scipy", "skimage", "tensorboard", "transformers", "trimesh", "warp", "xatlas",
    "yaml",
])  # fmt: skip


def missing_package(error: ModuleNotFoundError) -> str | None:
    """The sentence that says what to install; None where the missing module belongs to this package."""
    package = (error.name or "pullback").partition(".")[0]
    if package == "pullback":
        return None
    source = '"threestudio-pullback[host,models]"' if package in _EXTRAS else package
    return f"the package '{package}' is missing; install it: pip install {source}"


_UNFIT = re.compile(
    r"operator (torch\w+)::\w+ does not exist|packages[/\\](\w+)[/\\].*undefined symbol"
    r"|PyTorch and (torch\w+) were compiled|partially initialized module '(torch\w+)'"
)


def unfit_package(error: BaseException) -> str | None:
    """The sentence for an installed package that was built for another PyTorch; None for other errors."""
    cause: BaseException | None = error
    while cause is not None:
        if match := _UNFIT.search(str(cause)):
            package = next(filter(None, match.groups()))
            build = torch.__version__.partition("+")[2]
            index = f" --index-url https://download.pytorch.org/whl/{build}" if build else ""
            return (
                f"the package '{package}' was built for another PyTorch than {torch.__version__}; remove it by pip "
                f"uninstall {package}, or install the one that fits: pip install --force-reinstall {package}{index}"
            )
        cause = cause.__cause__ or cause.__context__
    return None


LARGEST = 1e15
"""What is larger counts as an infinity: single precision has no sum of such squares, and nothing sampled is near it."""


class NonFiniteError(ArithmeticError):
    """A NaN, an infinity or a number above `LARGEST` in a render, the noise, the denoiser or a fit.

    The message names the level, σ and the view.
    """


def fault(size: float) -> str | None:
    """What is wrong with the largest absolute value of a tensor, in words; None where nothing is."""
    # words are made where they are needed alone, since a run asks of every view
    return None if size <= LARGEST else f"a number of size {size:.1e}" if math.isfinite(size) else "a NaN or infinity"


class FiniteChecks:
    """Tensors that must be finite, looked at together: the host waits for the device once, not for each of them."""

    def __init__(self) -> None:
        self._expected: list[tuple[str, Tensor]] = []

    def expect(self, tensor: Tensor, what: str) -> Tensor:
        """Notes the largest absolute value of each view of a tensor; see `check_finite` for the arguments."""
        size = tensor.detach().abs()
        if size.numel():
            self._expected.append((what, size.flatten(1).amax(1) if size.ndim > 1 else size))
        return tensor

    def read(self, *numbers: Tensor) -> list[list[float]]:
        """The values of tensors [N], each as a list, after all that was expected has been looked at.

        Raises:
            NonFiniteError: A view is not finite; the message names the first tensor expected and its first such view.
        """
        expected, self._expected = self._expected, []
        tensors = [*(sizes for _, sizes in expected), *numbers]
        if not tensors:
            return []
        values = iter(cast(list[float], torch.cat(tensors).tolist()))  # pyright: ignore[reportUnknownMemberType]
        lists = [list(islice(values, len(tensor))) for tensor in tensors]
        for (what, _), sizes in zip(expected, lists, strict=False):
            for view, size in enumerate(sizes):
                if wrong := fault(size):
                    raise NonFiniteError(f"{what} has {wrong} in view {view}")
        return lists[len(expected) :]


def check_finite(tensor: Tensor, what: str) -> Tensor:
    """Checks a tensor for NaN, infinity and numbers above `LARGEST` at once; for several, use `FiniteChecks`.

    Args:
        tensor: [V,...].
        what: Its name, which begins the message.

    Returns:
        The tensor itself.

    Raises:
        NonFiniteError: A view is not finite; the message names the first one.
    """
    checks = FiniteChecks()
    checks.expect(tensor, what)
    checks.read()
    return tensor


def first_line(error: BaseException) -> str:
    """The first line of an exception's text, or its type's name where it has none."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


# what allocators of the CPU and of CUDA, cuBLAS, cuDNN and warp say in a RuntimeError of no special class
_ALLOCATION = re.compile(
    r"can't allocate memory|out of memory|(CUBLAS|CUDNN)_STATUS_ALLOC_FAILED|[Ff]ailed to allocate \d+ bytes"
)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an allocation failed, on the CPU or on a GPU."""
    if isinstance(error, (MemoryError, torch.cuda.OutOfMemoryError)):
        return True
    return isinstance(error, RuntimeError) and _ALLOCATION.search(str(error)) is not None
