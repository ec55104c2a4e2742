"""resolv.conf(5) where it is a file of the guest's own, which nothing writes anew: ifupdown alone sets no DNS servers."""

from __future__ import annotations

import re
from collections.abc import Sequence

from drivers.linux.splice import Splice, spliced, with_lines

PATH = "/etc/resolv.conf"

_SERVER = re.compile(r"^[ \t]*nameserver[ \t][^\n]*\n?", re.MULTILINE)


def with_servers(text: str, servers: Sequence[str]) -> str:
    """The text with these servers in place of those that it has."""
    lines = "".join(f"nameserver {server}\n" for server in servers)
    found = list(_SERVER.finditer(text))
    if not found:
        return with_lines(text, lines)
    first, *rest = found
    return spliced(text, [Splice(*first.span(), lines), *(Splice(*match.span(), "") for match in rest)])
