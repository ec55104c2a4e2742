"""A program on a terminal of its own, which is closed or stands still as one that somebody sits at."""

from __future__ import annotations

import os
import signal


def take_terminal() -> None:
    """Called in the child before the program begins (``preexec_fn``): its stdin becomes the terminal of a session of its own."""
    os.setsid()
    os.close(os.open(os.ttyname(0), os.O_RDWR))  # the first one opened is the session's
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # else it is as with nohup, where these tests were begun with it
