"""Signatures of records with the user's own SSH key, made and checked by ssh-keygen (its manual: -Y sign, -Y verify).

What is signed are the record's bytes, under the namespace ``p2v-record``, so that a signature made for something else (an
e-mail, a git commit) does not pass for one of a record.
"""

from __future__ import annotations

import enum
import os
import re
from dataclasses import dataclass
from pathlib import Path

from p2v.core.errors import NoSource, ProgramFailed, TargetExists, Usage
from p2v.core.io_errors import read_problem
from p2v.core.run import Runner, SystemRunner, run_at_terminal
from p2v.core.workspace import PARTIAL, rename_new, sync_folder, temporary_folder, write_synced
from p2v.record.reading import open_record

NAMESPACE = "p2v-record"
_SECONDS = 30.0
# A person may have to find the key's passphrase.
_PERSON_SECONDS = 600.0
_LARGEST_SIGNATURE_BYTES = 64 * 1024
_NAMESPACE = re.compile(r"[A-Za-z0-9@._-]{1,100}")
_KEY = re.compile(r"with (\S+) key (SHA256:\S+)")


class Standing(enum.Enum):
    """What a signature is worth."""

    NONE = "none"
    """There is none."""
    UNKNOWN_KEY = "unknown-key"
    """The record is what was signed, by a key that nobody vouched for."""
    GOOD = "good"
    """The record is what was signed, by a key that the user's list names for this identity."""
    BAD = "bad"


@dataclass(frozen=True, slots=True)
class Signature:
    """What was found out about a record's signature; ``key``: type and fingerprint, empty where none could be read."""

    standing: Standing
    said: str
    key: str = ""


@dataclass(frozen=True, slots=True)
class Signers:
    """Whom the user trusts: a file as ssh-keygen(1) has it under ALLOWED SIGNERS, and the name that is to have signed."""

    file: Path
    identity: str
    revoked: Path | None = None
    """Keys that count no more: a key revocation list, or public keys."""


def signature_path(record: Path) -> Path:
    """Where the signature of a record is."""
    return record.with_name(record.name + ".sig")


def sign(path: Path, key: Path, namespace: str = NAMESPACE) -> Path:
    """Sign a record that is whole; returns the signature's file. ssh-keygen asks for the key's passphrase on the terminal.

    ``key``: a private key's file, or a public one whose private half ssh-agent holds. Raises BadRecord, NoSource,
    TargetExists (it is signed already), ToolMissing, Usage.
    """
    opened = open_record(path)
    opened.whole()
    if not key.is_file():
        raise NoSource(str(key), "is no file", "Name your SSH key with --key, as in --key ~/.ssh/id_ed25519.")
    _require_namespace(namespace)
    final = signature_path(path)
    if os.path.lexists(final):
        raise TargetExists(final, "It is signed already; remove the signature to sign anew.")
    partial = final.with_name(final.name + PARTIAL)
    with temporary_folder() as work:
        # a copy, so that what is signed is what was just read and found whole
        copy = work / "record"
        copy.write_bytes(opened.data)
        try:
            run_at_terminal(
                ("ssh-keygen", "-Y", "sign", "-n", namespace, "-f", str(key.absolute()), str(copy)),
                timeout=_PERSON_SECONDS,
            )
        except ProgramFailed as error:
            raise _not_signed(key, error) from error
        write_synced(partial, signature_path(copy).read_text("ascii"))
    rename_new(partial, final)
    sync_folder(final.parent)
    return final


def _not_signed(key: Path, error: ProgramFailed) -> Usage:
    words = error.stderr_tail.strip().splitlines()
    return Usage(
        f"{key}: ssh-keygen does not sign with it: {words[-1] if words else 'it says nothing'}",
        "For a key with a passphrase run this on a terminal, or load the key (`ssh-add KEY`) and name KEY.pub.",
    )


def check(
    path: Path, data: bytes, signers: Signers | None, namespace: str = NAMESPACE, runner: Runner | None = None
) -> Signature:
    """Hold ``data``, the bytes of the record at ``path``, against its signature.

    Without signers the key is only named. Raises ToolMissing, ReadFailed, NoSource (no such file of signers), Usage.
    """
    _require_namespace(namespace)
    for named in (signers.file, signers.revoked) if signers else ():
        if named is not None and not named.is_file():
            raise NoSource(str(named), "is no file", "Name a file as ssh-keygen(1) describes it under ALLOWED SIGNERS.")
    file = signature_path(path)
    try:
        if not file.is_file():
            return Signature(Standing.NONE, f"there is no {file.name} beside the record")
        if file.stat().st_size > _LARGEST_SIGNATURE_BYTES:
            return Signature(Standing.BAD, f"{file.name} is too large for a signature")
    except OSError as error:
        raise read_problem(error, file) from error
    return _checked(file.absolute(), data, signers, namespace, runner or SystemRunner())


def _checked(file: Path, data: bytes, signers: Signers | None, namespace: str, runner: Runner) -> Signature:
    where = ("-n", namespace, "-s", str(file))
    try:
        # this says whether it is the record that was signed; who signed is asked next
        done = runner.run(("ssh-keygen", "-Y", "check-novalidate", *where), timeout=_SECONDS, stdin=data)
    except ProgramFailed as error:
        return Signature(Standing.BAD, _reason(error))
    key = " ".join(found.groups()) if (found := _KEY.search(done.stdout)) else "a key of unknown kind"
    if signers is None:
        return Signature(Standing.UNKNOWN_KEY, "signed, by a key nobody vouched for", key)
    asked = ["-f", str(signers.file.absolute()), "-I", signers.identity]
    asked += ["-r", str(signers.revoked.absolute())] if signers.revoked else []
    try:
        runner.run(("ssh-keygen", "-Y", "verify", *where, *asked), timeout=_SECONDS, stdin=data)
    except ProgramFailed as error:
        return Signature(Standing.BAD, f"not by {signers.identity} as {signers.file} has it: {_reason(error)}", key)
    return Signature(Standing.GOOD, f"signed by {signers.identity}", key)


def _reason(error: ProgramFailed) -> str:
    words = error.stderr_tail.strip().splitlines()
    return f"ssh-keygen says {words[-1]!a}" if words else "ssh-keygen refuses it"


def _require_namespace(namespace: str) -> None:
    if not _NAMESPACE.fullmatch(namespace):
        raise Usage(f"{namespace!a} is no name for a namespace", "Letters, digits and @ . _ - only.")
