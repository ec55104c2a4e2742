"""In the machine: what is tried on NFS. A row gives its figures; an AssertionError is what it found wrong.

A row's module is imported when it is asked for: an emulated machine takes long for that.
"""

from __future__ import annotations

from collections.abc import Mapping

ROWS: Mapping[str, tuple[str, str]] = {
    "locks": ("host_rows", "locks"),
    "names": ("host_rows", "names"),
    "files": ("host_rows", "files"),
    "refusals": ("host_rows", "refusals"),
    "whole": ("batch_rows", "whole"),
    "server stopped": ("batch_rows", "server_stopped"),
    "server killed": ("batch_rows", "server_killed"),
    "runner killed": ("batch_rows", "runner_killed"),
    "source replaced": ("batch_rows", "source_replaced"),
    "full": ("batch_rows", "full"),
    "squashed": ("batch_rows", "squashed"),
    "store": ("batch_rows", "store_on_nfs"),
}
