"""What the datamodules of images and panoramas share, in the framework that runs them."""

from __future__ import annotations

from .._framework import Updateable, datamodule, parse_structured

__all__ = ["SIZES", "ShownViews", "TrainingViews", "ViewsDataModule"]

SIZES = ("height", "width", "batch_size", "eval_height", "eval_width", "n_val_views", "n_test_views")
"""What every config of such a datamodule has, by the host's names; each at least 1."""

ShownViews = datamodule.ShownViews


class TrainingViews(datamodule.TrainingViews, Updateable):
    """Batches without end; see the host's."""


class ViewsDataModule(datamodule.ViewsDataModule):
    """Base of a datamodule; see the host's."""

    parse = staticmethod(parse_structured)
