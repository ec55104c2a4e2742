"""Entry point: parses, calls one verb, turns errors into one sentence, a hint and an exit code."""

from __future__ import annotations

import argparse
import importlib
import os
import signal
import sys
from collections.abc import Sequence
from types import FrameType

import converters
import drivers
import p2v
from p2v.cli import console
from p2v.core.errors import P2vError

_VERBS = {
    "inspect": "show what is inside a disk",
    "plan": "show what a conversion would change",
    "convert": "convert a machine's disks for KVM",
    "verify": "boot a throw-away copy and prove that it comes up",
    "report": "show what a conversion did, from its record",
    "disk": "disk images alone: info, map, convert, compare, check, serve",
    "doctor": "say what this host can do",
}


class _Terminated(KeyboardInterrupt):
    """SIGTERM, taken the way Ctrl-C is, so that everything owned is closed."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code (DESIGN.md section 5)."""
    if clash := _foreign_packages():
        console.note(f"p2v: {clash}")
        console.note("     p2v is an application with an environment of its own; run `make setup` and use .venv/bin/p2v.")
        return 69
    words = list(sys.argv[1:] if argv is None else argv)
    arguments = _parser(words).parse_args(words)
    signal.signal(signal.SIGTERM, _terminate)
    progress = getattr(arguments, "progress", "none")
    try:
        return int(arguments.run(arguments))
    except P2vError as failure:
        console.error(failure, progress)
        return failure.exit_code
    except _Terminated:
        console.note("p2v: ended by SIGTERM; nothing was left under a final name, the next run goes on where it can")
        return 143
    except KeyboardInterrupt:
        console.note("p2v: interrupted; nothing was left under a final name, the next run goes on where it can")
        return 130
    except BrokenPipeError:
        # the reader of our stdout has gone; keep Python from complaining about it once more at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 74


def _terminate(signum: int, frame: FrameType | None) -> None:
    raise _Terminated


def _foreign_packages() -> str:
    for package in (converters, drivers):
        if getattr(package, "P2V_SUITE", "") != "p2v-suite":
            return f"another package named {package.__name__} is in the way ({package.__file__})"
    return ""


class _Parser(argparse.ArgumentParser):
    """argparse ends with status 2, which here means "done with warnings"; a usage error is 64."""

    def error(self, message: str) -> None:  # type: ignore[override]
        console.note(f"p2v: {message}")
        console.note(f"     {self.format_usage().strip()}")
        sys.exit(64)


def _parser(words: Sequence[str]) -> argparse.ArgumentParser:
    parser = _Parser(
        prog="p2v",
        description="Moves physical machines and other hypervisors' virtual machines to KVM.",
        epilog="`p2v VERB --help` tells the options of a verb. Exit codes: README.md.",
    )
    parser.add_argument("--version", action="version", version=f"p2v {p2v.__version__}")
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB", parser_class=_Parser)
    asked = next((word for word in words if not word.startswith("-")), None)
    for name, title in _VERBS.items():
        verb = verbs.add_parser(name, help=title)
        if name == asked:
            # One file a verb; only the one asked for is imported, which is most of the time `inspect` would take.
            module = importlib.import_module(f"p2v.cli.{name}")
            verb.description = module.__doc__
            module.configure(verb)
            verb.set_defaults(run=module.run)
    return parser
