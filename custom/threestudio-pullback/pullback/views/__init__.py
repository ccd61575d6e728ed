"""Cameras, what `views` tell of them, and crops of a panorama."""
