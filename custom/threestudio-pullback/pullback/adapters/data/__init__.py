"""Datamodules of images and panoramas."""
