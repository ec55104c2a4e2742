"""``p2v record show RECORD``: what a conversion found, changed and proved."""

from __future__ import annotations

from p2v.cli.report import configure, run

__all__ = ["configure", "run"]
