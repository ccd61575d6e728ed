"""Datamodules."""
