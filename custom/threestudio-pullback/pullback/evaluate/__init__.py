"""Evaluations: what is measured, by which method, with results that outlive an interruption."""
