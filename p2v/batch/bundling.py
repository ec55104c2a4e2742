"""The failure bundle of an attempt whose machine is parked; one that cannot be made is told of, and hinders nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from p2v.batch.attempt import Attempt
from p2v.batch.event_data import data_of
from p2v.batch.failure_bundle import begin_bundle, bundle_folder, write_bundle
from p2v.batch.jobs import Failure
from p2v.batch.telling import Teller
from p2v.core.errors import P2vError
from p2v.core.events import Warned
from p2v.tools import tool_versions


@dataclass
class Bundles:
    """Those of a batch's run; ``store``: the batch's."""

    store: Path
    teller: Teller
    _versions: Mapping[str, str] = field(default_factory=dict)

    def begun(self, attempt: Attempt) -> Path | None:
        """The folder, empty; None: none could be made."""
        folder = bundle_folder(self.store, attempt.lease.job)
        try:
            begin_bundle(folder)
        except P2vError as error:
            self._none_made(attempt, error)
            return None
        return folder

    def filled(self, attempt: Attempt, failure: Failure) -> Failure:
        """The failure with its bundle, or without one that could not be filled."""
        if failure.bundle is None:
            return failure
        self._versions = self._versions or tool_versions()
        job, told = attempt.lease.job, list(attempt.told)
        try:
            write_bundle(failure.bundle, job, failure, told, attempt.said, self._versions, attempt.inspection)
        except P2vError as error:
            self._none_made(attempt, error)
            return replace(failure, bundle=None)
        return failure

    def _none_made(self, attempt: Attempt, error: P2vError) -> None:
        self.teller.job(attempt, "warning", data_of(Warned(f"no failure bundle was made: {error.sentence()}")))
