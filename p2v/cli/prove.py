"""``p2v prove RECORD``: reads source and result and shows that nothing differs but what was planned.

Every byte outside of what the rewriting touched is compared, and inside of it every name of the guest's file systems with all
that is recorded of it. Nothing is written but the proof, beside the record.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from p2v.cli import console, machine_options, options
from p2v.core.errors import Usage
from p2v.core.workspace import write_synced
from p2v.proof import ProofVerdict, prove
from p2v.proof.prove import pair_of
from p2v.proof.text import render
from p2v.record import open_record
from p2v.record.proof import proof_json, proof_path


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the verb's options."""
    parser.add_argument("record", type=Path, metavar="RECORD", help="the JSON file beside the result")
    parser.add_argument(
        "--source", type=Path, action="append", default=[], metavar="DISK",
        help="where a disk of the source is now (once for each, in order; default: where it was)",
    )  # fmt: skip
    machine_options.add_keys(parser)
    machine_options.add_acceleration(parser)
    options.add_progress(parser)
    parser.add_argument("--threads", type=int, default=2, metavar="N", help="that compare (default: 2)")
    parser.add_argument("-o", "--output", type=Path, metavar="FILE", help="the proof (default: NAME.proof.json beside the record)")
    parser.add_argument("--json", action="store_true", help="print the proof as a JSON document")


def run(arguments: argparse.Namespace) -> int:
    """Prove and print. 0 when nothing but the planned differs, 1 when something does."""
    report = console.reporter(arguments.progress)
    opened = open_record(arguments.record)
    record = opened.whole()
    folder = arguments.record.absolute().parent
    if arguments.source and len(arguments.source) != len(record.disks):
        raise Usage(f"the record has {len(record.disks)} disks, {len(arguments.source)} sources were named")
    if arguments.threads < 1:
        raise Usage("--threads must be at least 1")
    proof = prove(
        record, pair_of(record, folder, arguments.source), folder, machine_options.acceleration_of(arguments)(), report,
        keys=machine_options.keys_of(arguments), threads=arguments.threads, digest=opened.digest,
    )  # fmt: skip
    text = proof_json(proof)
    write_synced(arguments.output or proof_path(arguments.record), text)
    if arguments.json:
        console.out_json(text)
    else:
        console.out(render(proof))
    return 1 if proof.verdict is ProofVerdict.FAILED else 0
