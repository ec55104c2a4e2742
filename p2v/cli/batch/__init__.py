"""``p2v batch VERB``: a fleet overnight: begin a manifest, plan it, run it, look at it, stop it and go on, clean up."""

from __future__ import annotations

import argparse

from p2v.cli.verbs import add_verbs

_VERBS = {
    "init": "begin a manifest: from folders of machines, or from an audit",
    "plan": "say what would happen: every mistake and blocker at once, bytes and time",
    "run": "convert what waits; stopped and given again, it goes on",
    "status": "say who is converted, under way, waiting, parked",
    "retry": "let parked or cancelled machines be tried again",
    "cancel": "give machines up; one under way is stopped",
    "pause": "let nothing more begin; what is under way goes on",
    "resume": "let a paused batch go on",
    "logs": "tell what happened to a machine",
    "report": "write the fleet's page (HTML)",
    "clean": "show what a crash left, and remove it",
}


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the verbs."""
    # a module called run would take the name of this package's own function
    add_verbs(parser, __name__, _VERBS, run_as="run_batch_verb", modules={"run": "running"})


def run(arguments: argparse.Namespace) -> int:
    """Run the verb that was chosen."""
    return int(arguments.run_batch_verb(arguments))
