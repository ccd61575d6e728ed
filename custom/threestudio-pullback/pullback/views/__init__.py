"""Cameras, the reader of `views`, and crops of a panorama."""
