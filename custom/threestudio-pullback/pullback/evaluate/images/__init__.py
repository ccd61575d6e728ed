"""`pullback evaluate images`."""
