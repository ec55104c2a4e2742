"""Measurements against the real peers, in the same run, as ratios of medians: ``python -m bench``."""
