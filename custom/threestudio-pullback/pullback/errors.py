"""What the user can mend: one sentence each, shown without a traceback, exit status 2."""

from __future__ import annotations

from torch import Tensor


class UserError(Exception):
    """Bad input. The message says what is wrong, where (config path) and what to do, in one sentence."""


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
