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

_VERBS = ("inspect", "plan", "convert", "verify", "report", "doctor")


class _Terminated(KeyboardInterrupt):
    """SIGTERM, taken the way Ctrl-C is, so that everything owned is closed."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code (DESIGN.md section 5)."""
    if clash := _foreign_packages():
        console.note(f"p2v: {clash}")
        console.note("     p2v is an application with an environment of its own; run `make setup` and use .venv/bin/p2v.")
        return 69
    parser = _parser()
    arguments = parser.parse_args(argv)
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


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="p2v",
        description="Moves physical machines and other hypervisors' virtual machines to KVM.",
        epilog="`p2v VERB --help` tells the options of a verb. Exit codes: README.md.",
    )
    parser.add_argument("--version", action="version", version=f"p2v {p2v.__version__}")
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB", parser_class=_Parser)
    for name in _VERBS:
        # one file a verb; each adds its own parser with its ``run``
        importlib.import_module(f"p2v.cli.{name}").add_parser(verbs)
    return parser
