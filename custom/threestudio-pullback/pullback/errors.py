"""What the user can mend: one sentence each, shown without a traceback, exit status 2."""

from __future__ import annotations

from torch import Tensor


class UserError(Exception):
    """Bad input. The message says what is wrong, where (config path) and what to do, in one sentence."""


class ConfigError(UserError, ValueError):
    """A value that a block of a config must not have; for `__post_init__` of a config's dataclass.

    The bundled host puts the block's path in front: "`system.geometry.radius` must be above 0, not -1".

    Args:
        key: the key within the block, dotted where it lies deeper.
        message: what goes on after the key, such as "must be above 0, not -1".
    """

    def __init__(self, key: str, message: str) -> None:
        super().__init__(key, message)  # both, so that the error can be sent between processes
        self.key, self.message = key, message

    def __str__(self) -> str:
        return f"`{self.key}` {self.message}"


def check_at_least(cfg: object, least: float, *keys: str) -> None:
    """Raises ConfigError for the first of the keys whose value in `cfg` is below `least`."""
    for key in keys:
        if not getattr(cfg, key) >= least:
            raise ConfigError(key, f"must be at least {least}, not {getattr(cfg, key)}")


_EXTRAS = frozenset(
    [
        "PIL",
        "accelerate",
        "diffusers",
        "huggingface_hub",
        "imageio",
        "imageio_ffmpeg",
        "jinja2",
        "jsonschema",
        "markupsafe",
        "nerfacc",
        "numpy",
        "omegaconf",
        "pytorch_lightning",
        "safetensors",
        "scipy",
        "skimage",
        "tensorboard",
        "transformers",
        "trimesh",
        "yaml",
    ]
)


def missing_package(error: ModuleNotFoundError) -> str | None:
    """What to install where a package is missing; None where the module is one of our own."""
    package = (error.name or "pullback").partition(".")[0]
    if package == "pullback":
        return None
    source = '"threestudio-pullback[host,models]"' if package in _EXTRAS else package
    return f"the package '{package}' is missing; install it: pip install {source}"


class NonFiniteError(ArithmeticError):
    """A NaN or infinity in a render, the denoiser or a fit; names the level, σ and the view."""


def check_finite(tensor: Tensor, what: str) -> Tensor:
    """The tensor [V,...] itself; NonFiniteError names the first view that is not finite."""
    if not bool(tensor.isfinite().all()):
        view = int((~tensor.isfinite()).reshape(len(tensor), -1).any(1).nonzero()[0])
        raise NonFiniteError(f"{what} has a NaN or infinity in view {view}")
    return tensor


def first_line(error: BaseException) -> str:
    """The first line of an exception's text, or its type's name where it has none."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]
