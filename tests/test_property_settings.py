"""Property tests hold on a host that is busy: none has a deadline by the clock, nor fails because its examples are made slowly."""

from __future__ import annotations

import re
from pathlib import Path

from hypothesis import HealthCheck, settings


def test_no_example_has_a_deadline_or_is_made_too_slowly() -> None:
    usual = settings()
    assert usual.deadline is None
    assert HealthCheck.too_slow in usual.suppress_health_check


_WISHED = re.compile(r"(?:suppress_health_check|\bdeadline)=(\[[^]]*\]|list\(HealthCheck\)|[\w.]+)")


def test_what_tests_wish_besides_keeps_it() -> None:
    """What a test suppresses takes the place of what all do."""
    wished = [
        (path.name, words)
        for path in sorted(Path(__file__).parent.rglob("*.py"))
        for words in _WISHED.findall(path.read_text("utf-8"))
    ]
    assert len(wished) > 20
    fitting = ("None", "list(HealthCheck)")
    assert [each for each in wished if each[1] not in fitting and "HealthCheck.too_slow" not in each[1]] == []
