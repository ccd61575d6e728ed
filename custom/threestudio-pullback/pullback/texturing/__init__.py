"""Textures of a given mesh by sampling: what `pullback texture` does."""
