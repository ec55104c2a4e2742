"""The doubt that readers of file systems raise: what is not understood is copied whole, or left as it is."""

from __future__ import annotations


class NotUnderstood(ValueError):
    """Why what stands in a volume is not to be relied on. The text goes on from "copied whole, because"."""
