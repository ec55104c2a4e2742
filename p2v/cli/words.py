"""What a word of the command line is, where argparse's own types do not tell: for completion, which goes by an action's type."""

from __future__ import annotations


def machine_name(text: str) -> str:
    """A machine of a batch, or a pattern of several; whether there is one is seen by who has the batch."""
    return text
