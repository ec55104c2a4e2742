"""MAC addresses in one spelling."""

from __future__ import annotations

import re

_MAC = re.compile(r"[0-9a-f]{2}(?::[0-9a-f]{2}){5}")


def normal_mac(text: str) -> str | None:
    """A MAC address in lower-case colon form; None when the text is none."""
    mac = text.strip().strip("\"'").lower().replace("-", ":")
    return mac if _MAC.fullmatch(mac) else None
