"""``p2v audit PATH...``: what of a fleet runs on KVM, and why not; ``p2v audit explain RULE``: what a rule means."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

from drivers.plan import PlanOptions
from p2v.audit.auditing import Running, audit, with_sizing
from p2v.audit.catalogue_file import catalogue
from p2v.audit.document import AuditDocument
from p2v.audit.examine import Wish
from p2v.audit.findings import Severity
from p2v.audit.gather import gather, together
from p2v.audit.side_by_side import Bounds
from p2v.audit.suppressing import parse_suppression, read_suppressions
from p2v.cli import audit_files, audit_text, console, machine_options, options, sizing_options
from p2v.core.errors import Usage

if TYPE_CHECKING:
    from p2v.audit.sizing.inputs import SizingWish

_EXPLAIN = "explain"
_DEEP_SECONDS = 1800.0
_LONGEST_SECONDS = 7 * 24 * 3600.0
_AT_ONCE_AT_MOST = 256
# as verdicts go: what could not be seen may be a blocker, so it is worse than a warning
_FAILING = (Severity.BLOCKER, Severity.UNKNOWN, Severity.WARNING, Severity.INFORMATION)


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the verb's options."""
    parser.add_argument(
        "paths",
        nargs="+",
        type=Path,
        metavar="PATH",
        help="disks, descriptions of machines, folders of both (walked), block devices; or: explain RULE...",
    )
    parser.add_argument(
        "--together",
        action="store_true",
        help="the paths are the disks of one machine, in boot order, and not a machine each",
    )
    parser.add_argument("--json", action="store_true", help="the whole audit as a JSON document")
    parser.add_argument(
        "--as-of",
        type=_date,
        default=None,
        metavar="DATE",
        help="judge support as of this day (2027-01-31); default today",
    )
    parser.add_argument(
        "--fail-on",
        choices=[each.value for each in _FAILING],
        help="exit with 4 where a finding is at least this severe (blocker, unknown, warning, information), not suppressed and "
        "not set right by the conversion (for CI); otherwise an audit ends with 0",
    )
    parser.add_argument(
        "--suppress",
        action="append",
        default=[],
        metavar="RULE[@MACHINE]=REASON",
        help="do not count a rule's findings (for machines by that name, * and ? stand for letters); the reason is recorded",
    )
    parser.add_argument(
        "--suppressions",
        type=Path,
        metavar="FILE",
        help="the same from a TOML file: [[suppress]] with rule, machine, reason",
    )
    parser.add_argument(
        "--deep",
        action="store_true",
        help="start an appliance where only that can read a guest (Btrfs, an unclean file system)",
    )
    parser.add_argument(
        "--time-limit",
        type=float,
        metavar="SECONDS",
        help=f"cut off a machine that takes longer (default {Bounds().seconds:g}, with --deep {_DEEP_SECONDS:g})",
    )
    parser.add_argument(
        "--at-once", type=int, metavar="N", help="machines looked at at the same time (default: one a processor)"
    )
    parser.add_argument(
        "--virtio-win",
        type=Path,
        metavar="PATH",
        help="drivers for Windows guests, as for `p2v plan`",
    )
    parser.add_argument(
        "--all-findings", action="store_true", help="print every finding of every machine, not only what matters"
    )
    machine_options.add_keys(parser)
    machine_options.add_acceleration(parser)
    options.add_progress(parser)
    audit_files.configure(parser)
    sizing_options.add_sizing(parser)


def run(arguments: argparse.Namespace) -> int:
    """Audit and print; 4 where ``--fail-on`` says so."""
    if str(arguments.paths[0]) == _EXPLAIN and not arguments.paths[0].exists():
        return _explain([str(each) for each in arguments.paths[1:]])
    files = audit_files.wanted(arguments)
    document = _audited(arguments)
    audit_files.write(document, files)
    if arguments.json:
        from p2v.audit.formats.json_document import audit_json

        console.out_json(audit_json(document))
    else:
        console.out(
            audit_text.render(document, everything=arguments.all_findings, measured=arguments.measure is not None)
        )
    return 4 if _fails(document, arguments.fail_on) else 0


def _audited(arguments: argparse.Namespace) -> AuditDocument:
    rules = catalogue()
    # read before hours of auditing: what is wrong with it is said at once
    sizing = _sizing(arguments)
    if arguments.virtio_win is not None:
        from drivers.windows.media import read_media

        read_media(arguments.virtio_win)
    suppressions = [parse_suppression(text, rules) for text in arguments.suppress]
    if arguments.suppressions is not None:
        suppressions += read_suppressions(arguments.suppressions, rules)
    wish = Wish(
        rules,
        arguments.as_of or date.today(),
        deep=arguments.deep,
        keys=machine_options.keys_of(arguments),
        options=PlanOptions(virtio_win=arguments.virtio_win),
    )
    report = console.reporter(arguments.progress)
    document = audit(
        together(arguments.paths) if arguments.together else gather(arguments.paths),
        wish,
        _running(arguments),
        machine_options.acceleration_of(arguments),
        report,
        suppressions,
    )
    if sizing is None:
        return document
    from p2v.audit.sizing.size import size_as_wished

    sized = size_as_wished(sizing, document.machines, document.hosts, report)
    return with_sizing(document, sized, rules, suppressions)


def _sizing(arguments: argparse.Namespace) -> SizingWish | None:
    if not sizing_options.is_asked_for(arguments):
        return None
    from p2v.cli.sizing_wish import sizing_wish

    return sizing_wish(arguments)


def _running(arguments: argparse.Namespace) -> Running:
    # an appliance takes its memory and a processor; machines that are only read take a processor
    at_once = (
        arguments.at_once
        if arguments.at_once is not None
        else 1
        if arguments.deep
        else min(os.cpu_count() or 1, _AT_ONCE_AT_MOST)
    )
    if not 1 <= at_once <= _AT_ONCE_AT_MOST:
        raise Usage(f"--at-once {at_once}: from 1 to {_AT_ONCE_AT_MOST}")
    seconds = (
        arguments.time_limit
        if arguments.time_limit is not None
        else _DEEP_SECONDS
        if arguments.deep
        else Bounds().seconds
    )
    # nan is in no range
    if not 0 < seconds <= _LONGEST_SECONDS:
        raise Usage(f"--time-limit {seconds:g}: more than 0 seconds, at most {_LONGEST_SECONDS:.0f} (a week)")
    return Running(at_once, Bounds(seconds=seconds))


def _date(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is no date; write 2027-01-31") from error


def _fails(document: AuditDocument, fail_on: str | None) -> bool:
    if fail_on is None:
        return False
    failing = _FAILING[: _FAILING.index(Severity(fail_on)) + 1]
    findings = (*(finding for each in document.machines for finding in each.findings), *document.fleet)
    return any(each.severity in failing for each in findings if not each.suppressed and not each.fixed_by_conversion)


def _explain(names: Sequence[str]) -> int:
    rules = catalogue()
    for name in names:
        if name not in rules:
            near = sorted(known for known in rules if name.split(".")[-1] in known or known.startswith(name))[:8]
            raise Usage(
                f"there is no rule {name!r}",
                f"Near it: {', '.join(near)}." if near else "`p2v audit explain` lists all.",
            )
    if names:
        console.out("\n\n".join(audit_text.explain(rules[name]) for name in names))
    else:
        console.out("\n".join(audit_text.rule_line(rule) for rule in rules.values()))
    return 0
