"""Base classes of the datamodules of images and panoramas, in the framework that runs them."""

from __future__ import annotations

from .._framework import Updateable, datamodule, parse_structured

__all__ = ["SIZES", "ShownViews", "TrainingViews", "ViewsDataModule"]

SIZES = ("height", "width", "batch_size", "eval_height", "eval_width", "n_val_views", "n_test_views")
"""Keys of every config of such a datamodule, by the host's names; each is at least 1."""

ShownViews = datamodule.ShownViews


class TrainingViews(datamodule.TrainingViews, Updateable):
    """Batches without end; see the host's."""


class ViewsDataModule(datamodule.ViewsDataModule):
    """Base of a datamodule; see the host's."""

    parse = staticmethod(parse_structured)
