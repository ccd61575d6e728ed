"""Images and panoramas: a colour for every ray, and no volume."""
