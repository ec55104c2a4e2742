"""``p2v batch logs NAME``: what happened to a machine, every attempt, from the store's events."""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator

from p2v.batch.event_data import log_data
from p2v.batch.jobs import JobEvent
from p2v.batch.store import Store
from p2v.cli import console
from p2v.cli.batch import event_text
from p2v.cli.batch.which import add_names, batch_of, require_names
from p2v.core import jsontext

_LOOK_SECONDS = 0.5


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the verb's options."""
    add_names(parser, nargs=None, help="the machine, as the manifest calls it")
    parser.add_argument("-f", "--follow", action="store_true", help="go on until the machine has ended, or Ctrl-C")
    parser.add_argument("--json", action="store_true", help="every event as a line of JSON")


def run(arguments: argparse.Namespace) -> int:
    """Print them, oldest first."""
    batch = batch_of(arguments.batch)
    name: str = arguments.names
    with Store.open(batch.store) as store:
        require_names([name], store.jobs())
        try:
            for event in _events(store, name, follow=arguments.follow):
                _tell(event, as_json=arguments.json)
        except KeyboardInterrupt:
            return 130  # how following ends: nothing to say about it
    return 0


def _events(store: Store, name: str, *, follow: bool) -> Iterator[JobEvent]:
    last = 0
    while True:
        # asked first: what it did before its end is among the events then
        ended = store.job(name).state.is_end
        for event in store.every_event(last, name):
            yield event
            last = event.number
        if ended or not follow:
            return
        time.sleep(_LOOK_SECONDS)


def _tell(event: JobEvent, *, as_json: bool) -> None:
    if as_json:
        console.out_json(jsontext.canonical(log_data(event)).decode() + "\n")
    elif text := event_text.line(event):
        console.out(text)
