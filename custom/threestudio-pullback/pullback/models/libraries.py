"""How diffusers and transformers are called: their classes by name, their options, quietly, with errors of ours."""

from __future__ import annotations

import importlib
import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

from ..errors import UserError, is_out_of_memory, unfit_package
from .model_error import AGAIN, ModelError, first_sentence

INSTALL = "pip install diffusers transformers safetensors accelerate"


def class_of(kind: str) -> Any:
    """The class of a name such as "diffusers.AutoencoderKL".

    Raises:
        ModelError: The installed version has none of this name.
    """
    library, _, name = kind.rpartition(".")
    module, root = importlib.import_module(library), library.partition(".")[0]
    if not hasattr(module, name):
        version = importlib.import_module(root).__version__
        raise ModelError(
            f"the model has a {name}, which {root} {version} does not have; install another version of {root}, such as "
            f"with `pip install --upgrade {root}`"
        )
    return getattr(module, name)


def dtype_option(dtype: torch.dtype) -> dict[str, torch.dtype]:
    """The keyword of diffusers' from_pretrained: `torch_dtype` until 0.41, then deprecated for `dtype`."""
    import diffusers

    major, minor = diffusers.__version__.split(".")[:2]
    return {"dtype" if (int(major), int(minor)) >= (0, 42) else "torch_dtype": dtype}


@contextmanager
def quiet() -> Iterator[None]:
    """A context without warnings and progress bars of diffusers and transformers."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            # transformers first: importing diffusers makes it warn
            from transformers.utils import logging as first

            verbosity, bars = first.get_verbosity(), first.is_progress_bar_enabled()
            first.set_verbosity(logging.CRITICAL)
            first.disable_progress_bar()
            from diffusers.utils import logging as second
        except ImportError as error:
            raise missing_package(error) from error
        loud = second.get_verbosity()
        second.set_verbosity(logging.CRITICAL)  # an error of theirs becomes a sentence of ours
        try:
            yield
        finally:
            first.set_verbosity(verbosity)
            second.set_verbosity(loud)
            if bars:
                first.enable_progress_bar()


def missing_package(error: ImportError) -> UserError:
    """The error for a package of the `models` extra that is not installed, or was built for another PyTorch."""
    if sentence := unfit_package(error):
        return UserError(sentence)
    return UserError(f"diffusion models need the package {error.name or error}, which is not installed; run {INSTALL}")


@contextmanager
def reading(origin: str, remedy: Callable[[], str] = lambda: AGAIN) -> Iterator[None]:
    """A context to read files with a library: without its warnings and bars, and its errors become sentences.

    Args:
        origin: Where the files come from, for the sentence.
        remedy: What it says that helps.

    Raises:
        ModelError: The library raised an error of its own.
        UserError: A package is missing or unfit.
    """
    try:
        with quiet():
            yield
    except UserError:
        raise
    except ImportError as error:
        raise missing_package(error) from error
    except Exception as error:  # diffusers, transformers and safetensors each raise their own
        if is_out_of_memory(error):
            raise
        if sentence := unfit_package(error):
            raise UserError(sentence) from error
        reason = f"{type(error).__name__}: {first_sentence(error)}"
        raise ModelError(f"{origin} cannot be loaded ({reason}); {remedy()}") from error
