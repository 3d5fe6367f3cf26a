"""Recompute the stages of a golden folder."""
