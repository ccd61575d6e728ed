"""Meshes of others: read from a file that is not trusted, and cut into charts."""
