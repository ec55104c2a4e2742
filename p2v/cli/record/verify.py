"""``p2v record verify RECORD``: check that a record is whole, and say what it proves and what not.

It says of three claims whether they are PROVEN, and by what: "copied right", "changed only as planned", "boots". Without
further options only the record is read, and the proof and the signature beside it.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from p2v.cli import console, options
from p2v.cli.record.sign import add_namespace
from p2v.core import jsontext
from p2v.core.errors import NoSource, Usage
from p2v.record.claims import Claim, Verdict
from p2v.record.examining import Answer, Question, examine
from p2v.record.files import DiskFiles, Files, Looked, Places, State
from p2v.record.signature import Signers, Standing

_CLAIMS = {"copied": Claim.COPIED, "planned": Claim.PLANNED, "boots": Claim.BOOTS}
_STATES = {State.SAME: "same", State.DIFFERENT: "DIFFERENT", State.NOT_AT_HAND: "not at hand"}


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the verb's options."""
    parser.epilog = (
        "Exit code: 0 all that was asked is proven; 1 something is different or not proven; 65 the record is damaged or was "
        "changed."
    )
    parser.add_argument("record", type=Path, metavar="RECORD", help="the JSON file beside the result")
    parser.add_argument(
        "--files",
        action="store_true",
        help="also read the files beside the record, and the source where it is still where it was; takes a read of the disks",
    )
    _add_disk(
        parser, "--target", "where a disk of the result is now; repeat for further disks, in order (implies --files)"
    )
    _add_disk(parser, "--source", "where a disk of the source is now; repeat likewise (implies --files)")
    parser.add_argument(
        "--require",
        action="append",
        default=[],
        choices=tuple(_CLAIMS),
        help="exit with 1 unless this is proven; repeat",
    )
    parser.add_argument("--json", action="store_true", help="the answer as a JSON document")
    group = parser.add_argument_group("who signed it (RECORD.sig)")
    group.add_argument("--allowed-signers", type=Path, metavar="FILE", help="the keys you trust, as in ssh-keygen(1)")
    group.add_argument("--identity", metavar="NAME", help="who is to have signed, as the file names them")
    group.add_argument("--revoked", type=Path, metavar="FILE", help="keys that count no more (a KRL, or public keys)")
    add_namespace(parser)
    options.add_progress(parser)


def _add_disk(parser: argparse.ArgumentParser, name: str, told: str) -> None:
    parser.add_argument(name, action="append", default=[], type=Path, metavar="DISK", help=told)


def run(arguments: argparse.Namespace) -> int:
    """Examine and print; see the epilog for the exit code."""
    places = None
    if arguments.files or arguments.target or arguments.source:
        places = Places(arguments.record.parent, tuple(arguments.target), tuple(arguments.source))
        for disk in (*places.targets, *places.sources):
            if not disk.exists():
                raise NoSource(str(disk), "is not there", "Name the disks where they are now.")
    required = tuple(_CLAIMS[name] for name in arguments.require)
    question = Question(arguments.record, places, _signers(arguments), arguments.namespace, required)
    answer = examine(question, console.reporter(arguments.progress))
    if arguments.json:
        console.out_json(jsontext.pretty(_data(answer)))
    else:
        console.out("\n".join(_lines(answer)))
    return answer.exit_code


def _signers(arguments: argparse.Namespace) -> Signers | None:
    if arguments.allowed_signers is None:
        if arguments.identity or arguments.revoked:
            raise Usage("--identity and --revoked need --allowed-signers FILE", "It names the keys that you trust.")
        return None
    if not arguments.identity:
        raise Usage(
            "--allowed-signers needs --identity NAME", "Any of the file's people could have signed: say who should."
        )
    return Signers(arguments.allowed_signers, arguments.identity, arguments.revoked)


def _lines(answer: Answer) -> Iterator[str]:
    opened = answer.opened
    if opened.problems:
        yield f"{opened.path}: NOT WHOLE"
        yield from (f"  {problem}" for problem in opened.problems)
    else:
        record = opened.record
        assert record is not None
        yield f"{opened.path}: {record.document.machine.name}, converted {record.started}"
        yield _row("record", f"whole, every part fits (schema {opened.schema}, digest {opened.digest})")
        if not opened.is_chained:
            yield _row(
                "", "an old record: one digest over everything, none of changed ranges or of what was seen at boot"
            )
    yield _row("signature", answer.signature.said + (f" ({answer.signature.key})" if answer.signature.key else ""))
    if answer.signature.standing is Standing.NONE:
        yield _row("", "so it shows what is damaged, and not who wrote it")
    if opened.problems:
        yield "Nothing that it says is proven."
        return
    yield _row("proof", answer.proof_said)
    if answer.files is not None:
        yield from _file_lines(answer.files)
    for verdict in answer.verdicts:
        yield from _verdict_lines(verdict)
    if answer.failures:
        yield ""
        yield "Asked for, and different or not proven:"
        yield from (f"  {failure}" for failure in answer.failures)


def _file_lines(files: Files) -> Iterator[str]:
    yield ""
    for looked in files.outputs:
        yield _looked(looked)
    for disk in files.disks:
        yield _looked(disk.target)
        yield _looked(disk.source, "source ")


def _looked(looked: Looked, kind: str = "") -> str:
    return f"  {_STATES[looked.state]:<12}{kind}{looked.what}: {looked.said}"


def _verdict_lines(verdict: Verdict) -> Iterator[str]:
    yield ""
    yield f"{verdict.claim.value}: " + ("PROVEN" if verdict.proven else f"NOT PROVEN ({verdict.why.value})")
    yield from (f"  {clause}" for clause in verdict.rests_on)


def _row(name: str, value: str) -> str:
    return f"  {name:<11}{value}"


def _data(answer: Answer) -> dict[str, Any]:
    opened = answer.opened
    return {
        "record": str(opened.path),
        "schema": opened.schema,
        "digest": opened.digest,
        "whole": not opened.problems,
        "problems": list(opened.problems),
        "signature": {
            "standing": answer.signature.standing.value, "said": answer.signature.said, "key": answer.signature.key
        },
        "proof": answer.proof_said,
        "files": [_looked_data(each) for each in answer.files.outputs] if answer.files else None,
        "disks": [_disk_data(each) for each in answer.files.disks] if answer.files else None,
        "claims": [
            {"claim": v.claim.value, "proven": v.proven, "why": v.why.value, "rests_on": list(v.rests_on)}
            for v in answer.verdicts
        ],
        "failures": list(answer.failures),
        "exit_code": answer.exit_code,
    }  # fmt: skip


def _disk_data(disk: DiskFiles) -> dict[str, Any]:
    parts = (("target", disk.target), ("source", disk.source), ("copied", disk.copied))
    return {name: _looked_data(looked) for name, looked in parts}


def _looked_data(looked: Looked) -> dict[str, str]:
    return {"what": looked.what, "state": looked.state.value, "said": looked.said}
