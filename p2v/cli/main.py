"""Entry point: parses, calls one verb, turns errors into one sentence, a hint and an exit code."""

from __future__ import annotations

import errno
import signal
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType

import converters
import drivers
import p2v
from p2v.cli import console
from p2v.cli.ending import GRACE_SECONDS, bounded_ending
from p2v.cli.verbs import Parser, add_verbs
from p2v.core.errors import P2vError, ReadFailed
from p2v.core.io_errors import full_somewhere, write_problem

_VERBS = {
    "inspect": "show what is inside a disk",
    "plan": "show what a conversion would change",
    "audit": "say of one disk or a thousand machines what runs on KVM, what does not, and why",
    "convert": "convert a machine's disks for KVM",
    "batch": "convert a fleet: init, plan, run, status, retry, cancel, pause, resume, logs, report, clean",
    "undo": "take a conversion in place back",
    "verify": "boot a throw-away copy and prove that it comes up",
    "prove": "compare a result with its source: only what was planned has changed",
    "report": "show what a conversion did, from its record",
    "record": "the record of a conversion: show, verify, sign, bundle",
    "disk": "disk images alone: info, map, convert, compare, check, serve",
    "drivers": "show the Windows drivers on a medium (virtio-win), and which a Windows gets",
    "doctor": "say what this host can do",
    "completion": "print a script for the Tab key in bash, zsh or fish",
}


class _Terminated(KeyboardInterrupt):
    """SIGTERM, or SIGHUP (the terminal is gone), taken the way Ctrl-C is, so that everything owned is closed."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


def main(argv: Sequence[str] | None = None, *, loaded: Callable[[], None] = lambda: None) -> int:
    """Run the command line; returns the exit code (DESIGN.md section 5). ``loaded`` is called once the verb's modules are read."""
    console.prepare()
    try:
        return _main(argv, loaded)
    finally:
        console.let_go()


def _main(argv: Sequence[str] | None, loaded: Callable[[], None]) -> int:
    if clash := _foreign_packages():
        console.note(f"p2v: {clash}")
        console.note("     p2v is an application with an environment of its own; run `make setup` and use .venv/bin/p2v.")
        return 69
    arguments = whole_parser().parse_args(argv)
    loaded()
    signal.signal(signal.SIGTERM, _terminate)
    # who was started with nohup goes on
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        signal.signal(signal.SIGHUP, _terminate)
    progress = getattr(arguments, "progress", "none")
    try:
        # a verb that has others to end first takes longer
        with bounded_ending(getattr(arguments, "ending_seconds", GRACE_SECONDS)):
            return int(arguments.run(arguments))
    except P2vError as failure:
        console.error(failure, progress)
        return failure.exit_code
    except _Terminated as ended:
        _let_signals_end_it()
        name = signal.Signals(ended.number).name
        console.note(f"p2v: ended by {name}; what has its final name is complete, and the same command goes on where it can")
        return 128 + ended.number
    except KeyboardInterrupt:
        _let_signals_end_it()
        console.note("p2v: interrupted; what has its final name is complete, and the same command goes on where it can")
        return 130
    except BrokenPipeError:
        return 74  # the reader of our stdout has gone, who knows
    except OSError as refusal:
        # the host's refusal of something that no engine expected to be refused
        refused = _refused(refusal)
        console.error(refused, progress)
        return refused.exit_code


def _refused(refusal: OSError) -> P2vError:
    """What is full is called so, also where nobody knows which file it was (an error at the close of one on NFS); so is what is
    mounted read-only (by a service's ProtectSystem=strict, for one).
    """
    if refusal.errno == errno.EROFS and refusal.filename:
        return write_problem(refusal, Path(refusal.filename))
    if refusal.errno in (errno.ENOSPC, errno.EDQUOT):
        return write_problem(refusal, Path(refusal.filename)) if refusal.filename else full_somewhere(refusal)
    return ReadFailed(str(refusal.filename or "the host"), refusal.strerror or str(refusal))


def _let_signals_end_it() -> None:
    """Everything is closed: who asks a second time need not wait for words."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)


def _terminate(signum: int, frame: FrameType | None) -> None:
    raise _Terminated(signum)


def _foreign_packages() -> str:
    for package in (converters, drivers):
        if getattr(package, "P2V_SUITE", "") != "p2v-suite":
            return f"another package named {package.__name__} is in the way ({package.__file__})"
    return ""


def whole_parser() -> Parser:
    """Of the whole command line, its verbs not loaded yet."""
    parser = Parser(
        prog="p2v",
        description="Moves physical machines and other hypervisors' virtual machines to KVM.",
        epilog="`p2v VERB --help` tells the options of a verb. Exit codes: README.md.",
    )
    parser.add_argument("--version", action="version", version=f"p2v {p2v.__version__}")
    add_verbs(parser, "p2v.cli", _VERBS, run_as="run")
    return parser
