"""What happened to a machine, a line an event. Pure; what an event holds is somebody else's word, and looked at as such."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from p2v.batch.jobs import JobEvent
from p2v.cli.batch.status_text import cut
from p2v.core.units import format_bytes, format_seconds


def line(event: JobEvent) -> str:
    """An event with its time, local; empty for one that says nothing by itself (bytes that went on)."""
    text = words(event)
    return f"{datetime.fromtimestamp(event.at):%Y-%m-%d %H:%M:%S}  {text}" if text else ""


def words(event: JobEvent) -> str:
    """What it says, in one line."""
    data = event.data
    match event.kind:
        case "bytes-done" | "item-done":
            return ""
        case "claimed":
            return f"attempt {number(data, 'attempt')} begins ({text(data, 'worker')}, lease {event.fence})" + _lost(
                data
            )
        case "began" | "limit":
            return f"may copy {format_bytes(number(data, 'limit'))} a second"
        case "worker":
            return f"goes on at {text(data, 'host') or 'a worker'} ({text(data, 'worker')})"
        case "phase-started":
            size = number(data, "total_bytes")
            return f"{text(data, 'title') or text(data, 'phase')} ..." + (f" ({format_bytes(size)})" if size else "")
        case "phase-finished":
            ended = "failed after" if data.get("failed") is True else "done in"
            return f"{text(data, 'phase')}: {ended} {format_seconds(_seconds(data, 'seconds'))}"
        case "change-applied":
            return f"  {'already so' if data.get('skipped') is True else 'changed'}: {text(data, 'summary')}"
        case "warning":
            return f"warning: {text(data, 'message')}"
        case "error":
            return f"error: {_failure(data)}"
        case _:
            return _of_the_store(event)


def _of_the_store(event: JobEvent) -> str:
    data, why = event.data, _failure(event.data.get("failure", event.data))
    match event.kind:
        case "done":
            verified = {"True": ", verified", "False": ", not verified"}.get(str(data.get("verified")), "")
            return f"converted{verified}: {text(data, 'record')}"
        case "parked":
            return f"PARKED: {why}"
        case "again":
            wait = max(0.0, _seconds(data, "not_before") - event.at)
            how = "somebody else is at it still (no attempt is counted)" if data.get("counted") is False else "failed"
            return f"{how}, will be tried again in {format_seconds(wait)}: {why}"
        case "cancelled":
            return f"cancelled: {reason}" if (reason := text(data, "why") or why) else "cancelled"
        case "lease-lost":
            return f"another worker has it now: {text(data, 'message')}"
        case "hook" | "hook-began" | "hook-runs":
            return _of_hook(event)
        case "cancel-wished":
            return "is to be cancelled"
        case "retried":
            return "is to be tried again"
        case "let-go":
            return f"{text(data, 'worker')} was killed: its lease holds no longer"
        case "released":
            return "stopped, waits for the next run"
        case "added" | "changed" | "removed":
            return f"{event.kind} by the manifest"
        case _:
            rest = ", ".join(f"{name} {value}" for name, value in data.items())
            return cut(f"{event.kind}: {rest}" if rest else event.kind)


def _of_hook(event: JobEvent) -> str:
    data = event.data
    command = f"the command {text(data, 'when')} it"
    match event.kind:
        case "hook-began":
            return f"{command} begins"
        case "hook-runs":
            return f"{command} is process {text(data, 'process').partition(':')[0]}"
        case _:
            return f"{command}: failed: {text(data, 'message')}" if data.get("failed") is True else f"{command}: done"


def _lost(data: Mapping[str, Any]) -> str:
    return f"; {text(data, 'lost_worker')} was not heard of any more" if data.get("lost_worker") else ""


def _failure(data: object) -> str:
    if not isinstance(data, Mapping):
        return ""
    message, code, hint = text(data, "message"), text(data, "code"), text(data, "hint")
    return (f"{message} ({code})" if code else message) + (f" {hint}" if hint else "")


def text(data: Mapping[str, Any], name: str) -> str:
    """A field of an event as words, safe to show; empty where it has none."""
    value = data.get(name)
    return cut(str(value)) if value is not None else ""


def number(data: Mapping[str, Any], name: str) -> int:
    """A field of an event that should be a whole number; 0 for anything else."""
    value = data.get(name)
    return value if isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**63 else 0


def _seconds(data: Mapping[str, Any], name: str) -> float:
    value = data.get(name)
    # NaN and infinity are numbers to JSON's reader
    return float(value) if isinstance(value, int | float) and abs(value) < 1e12 else 0.0
