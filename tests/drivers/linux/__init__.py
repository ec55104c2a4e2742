"""Tests of ``drivers``: planning with guests in memory, readers on tiny file systems."""
