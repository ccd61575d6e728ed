"""What the user can mend: one sentence each, shown without a traceback, exit status 2."""

from __future__ import annotations


class UserError(Exception):
    """Bad input. The message says what is wrong, where (config path) and what to do, in one sentence."""


class NonFiniteError(ArithmeticError):
    """A NaN or infinity in a render, the denoiser or a fit; names the level, σ and the view."""
