"""The report of a comparison: table, curves, page."""
