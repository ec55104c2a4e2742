"""``p2v disk serve SRC --socket S``: the disk read-only over NBD, for any client, until Ctrl-C or SIGTERM.

Only the user who runs this may connect. The socket must not exist and is removed at the end.
"""

from __future__ import annotations

import argparse
import shlex
from pathlib import Path

from converters.nbd import NbdExport, serve_at
from p2v.cli import console
from p2v.cli.disk.source import add_source, spec_of
from p2v.core.errors import ProgramFailed

_LOOKED_AT_SECONDS = 1.0


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the verb's options."""
    add_source(parser)
    parser.add_argument("--socket", type=Path, required=True, metavar="S", help="the UNIX socket to be made")


def run(arguments: argparse.Namespace) -> int:
    """Serve until interrupted, which is the ordinary end: 0."""
    with serve_at(spec_of(arguments), arguments.socket.absolute()) as export:
        try:
            console.out(_invitation(export))
            while (status := export.program.wait(_LOOKED_AT_SECONDS)) is None:
                pass
            raise ProgramFailed("nbdkit", status, export.program.stderr_tail())
        except KeyboardInterrupt:
            console.note("p2v: ended; the socket is removed")
        finally:
            for failure in export.failures():
                console.note(f"p2v: a read failed: {failure}")
    return 0


def _invitation(export: NbdExport) -> str:
    uri = shlex.quote(export.uri)
    # libguestfs has its own way of writing the address of a UNIX socket
    guestfish = shlex.quote(export.uri.replace("nbd+unix:", "nbd:", 1))
    return (
        f"{export.uri}\n"
        f"  qemu       -drive file={uri},format=raw,if=virtio,snapshot=on\n"
        f"  guestfish  --ro --format=raw -a {guestfish} -i\n"
        f"  copy       nbdcopy {uri} copy.raw\n"
        "Ctrl-C ends it."
    )
