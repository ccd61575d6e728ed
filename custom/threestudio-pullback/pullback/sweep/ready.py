"""Registers all parts of ours when it is imported, by the process that workers are forked from."""

from ..host.parts import load_shipped

load_shipped()
