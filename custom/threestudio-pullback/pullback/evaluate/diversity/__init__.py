"""`pullback evaluate diversity`."""
