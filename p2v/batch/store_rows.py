"""Rows of the store to values and back. What stands in a store may have been written by another version, or damaged."""

from __future__ import annotations

import functools
import json
import sqlite3
from collections.abc import Mapping
from dataclasses import replace
from datetime import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from p2v.batch.jobs import Failure, Job, JobEvent, MachineJob, State
from p2v.batch.terms import KeptTerms, Terms, terms_of
from p2v.core.errors import BadStore
from p2v.core.jsonio import BadDocument, decode, encode, new_converter
from p2v.core.jsontext import canonical

if TYPE_CHECKING:
    import cattrs

LARGEST_COUNT = 2**63 - 1
"""Of a number in a row."""
LONGEST_DATA = 64 * 1024
"""Bytes of an event's data; what a child says is not trusted to be short."""
_LONGEST_MESSAGE = 8 * 1024
_LAST_MOMENT = 250_000_000_000.0
"""Seconds since 1970; a little before the end of Python's calendar."""


def _time(value: object, _: type) -> time:
    if not isinstance(value, str):
        raise TypeError(f"expected a time of day, got {type(value).__name__}")
    return time.fromisoformat(value)


@functools.cache
def _converter() -> cattrs.Converter:
    made = new_converter()
    made.register_structure_hook(time, _time)
    made.register_unstructure_hook(time, time.isoformat)
    return made


def text_of(data: object) -> str:
    """JSON with one spelling; surrogates of odd file names are escapes in it."""
    return canonical(data).decode("ascii")


def stored(text: str) -> str:
    """A name as a column holds it: with escapes for what is no UTF-8 (words of a command line may be any bytes)."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def machine_text(machine: MachineJob) -> str:
    """What is kept of a machine, and compared to see whether it has changed."""
    return text_of(encode(_converter(), machine))


def failure_text(failure: Failure) -> str:
    """What is kept of a failure."""
    return text_of(encode(_converter(), cut_failure(failure)))


def cut_failure(failure: Failure) -> Failure:
    """The same with no more words than people read."""
    return replace(failure, message=failure.message[:_LONGEST_MESSAGE], hint=failure.hint[:_LONGEST_MESSAGE])


def event_text(data: Mapping[str, Any]) -> str:
    """What is kept of an event's data; of one that is too long its size alone."""
    text = text_of(dict(data))
    return text if len(text) <= LONGEST_DATA else text_of({"left_out_bytes": len(text)})


def path_text(path: Path | None) -> str | None:
    """As JSON, which holds names of any bytes."""
    return None if path is None else text_of(str(path))


class Rows:
    """Reads rows of one store; machines that were read stay read, for ``jobs`` is asked for many times a minute."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._machines: dict[str, MachineJob] = {}

    def forget(self) -> None:
        """The manifest has changed."""
        self._machines.clear()

    def machine(self, text: str) -> MachineJob:
        """Raises BadStore."""
        known = self._machines.get(text)
        if known is None:
            known = self._machines[text] = self._decoded(text, MachineJob)
        return known

    def job(self, row: sqlite3.Row) -> Job:
        """Raises BadStore."""
        try:
            return self._job(row)
        except IndexError as error:  # of a column
            raise BadStore(self._file, "is damaged: a table has not all of its columns") from error

    def _job(self, row: sqlite3.Row) -> Job:
        failure, record = row["failure"], row["record"]
        return Job(
            machine=self.machine(row["machine"]),
            state=self._state(row["state"]),
            attempts=row["attempts"],
            fence=row["fence"],
            worker=row["worker"],
            lease_until=self._moment(row["lease_until"]),
            not_before=self._moment(row["not_before"]),
            phase=phase_of(self.phases(row)),
            bytes_copied=row["bytes_copied"],
            bytes_total=row["bytes_total"],
            seconds=self._decoded(row["seconds"], dict[str, float]),
            failure=None if failure is None else self._decoded(failure, Failure),
            verified=None if row["verified"] is None else bool(row["verified"]),
            record=None if record is None else self._decoded(record, Path),
            began=self._moment(row["began"]),
            ended=self._moment(row["ended"]),
            host=row["host"],
            cancel_wished=bool(row["cancel_wished"]),
        )

    def phases(self, row: sqlite3.Row) -> list[str]:
        """Those under way. Raises BadStore."""
        phases: list[str] = self._decoded(row["phases"], list[str])
        return phases

    def terms(self, text: str) -> Terms:
        """Raises BadStore."""
        return terms_of(self._decoded(text, KeptTerms))

    def event(self, row: sqlite3.Row) -> JobEvent:
        """Raises BadStore."""
        data = self._decoded(row["data"], dict[str, Any])
        return JobEvent(row["number"], self._moment(row["at"]), row["job"], row["fence"], row["kind"], data)

    def _state(self, text: str) -> State:
        try:
            return State(text)
        except ValueError as error:
            raise BadStore(self._file, "is damaged: a machine is in a state that there is not") from error

    def _moment(self, seconds: float) -> float:
        """What is no time that a calendar has cannot be shown as one."""
        if not 0.0 <= seconds < _LAST_MOMENT:
            raise BadStore(self._file, "is damaged: it has a time in it that there is not")
        return seconds

    def _loaded(self, text: str) -> Any:
        try:
            return json.loads(text)
        except (ValueError, RecursionError) as error:
            raise BadStore(self._file, f"is damaged: {error}") from error

    def _decoded(self, text: str, kind: Any) -> Any:
        try:
            return decode(_converter(), self._loaded(text), kind)
        except BadDocument as error:
            raise BadStore(self._file, f"holds what this p2v does not understand: {error}") from error


def phase_of(phases: list[str]) -> str:
    """Of those under way the one to show: the copy as long as there is one, for its place is counted; else the last begun."""
    if "copy" in phases:
        return "copy"
    return phases[-1] if phases else ""
