"""``p2v completion bash|zsh|fish``: print a script with which the shell completes what ``p2v`` is given (docs/completion.md).

The script knows all verbs and options by itself; only names of a batch's machines are asked of this program, at a press of the key.
"""

from __future__ import annotations

import argparse

from p2v.cli import console
from p2v.core.errors import Usage

_SHELLS = ("bash", "zsh", "fish")


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the verb's options."""
    parser.add_argument("shell", nargs="?", choices=_SHELLS, help="whose script")
    # said by the scripts: names of machines that can follow these words of a command line
    parser.add_argument("--machines-for", nargs=argparse.REMAINDER, metavar="WORD", help=argparse.SUPPRESS)


def run(arguments: argparse.Namespace) -> int:
    """Print it."""
    if arguments.machines_for is not None:
        # who presses a key waits for it: nothing else is read
        from p2v.cli.completion.machines import tell_machines

        tell_machines(arguments.machines_for)
        return 0
    if arguments.shell is None:
        raise Usage("no shell was named", f"As in p2v completion {_SHELLS[0]}.")
    from p2v.cli.completion.scripts import script

    console.out_utf8(script(arguments.shell))
    return 0
