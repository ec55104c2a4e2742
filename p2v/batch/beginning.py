"""``p2v batch init``: a manifest to begin with, of what an audit found below some paths, or of an audit that was kept as JSON."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Sequence
from datetime import date
from pathlib import Path

from p2v.audit.auditing import Running, audit
from p2v.audit.catalogue_file import catalogue
from p2v.audit.document import AUDIT_SCHEMA, AuditDocument, LeftAside, MachineAudit, Origin, Verdict
from p2v.audit.examine import Wish
from p2v.audit.findings import AuditFinding, Severity
from p2v.audit.gather import gather
from p2v.audit.side_by_side import Bounds
from p2v.batch.jobs import MANIFEST_SCHEMA, Budget
from p2v.batch.names import NAME
from p2v.core import jsonio
from p2v.core.acceleration import Acceleration, Accelerator
from p2v.core.errors import NoSource, P2vError, Usage
from p2v.core.events import Reporter, silent
from p2v.core.text import plain_name, printable
from p2v.core.units import MIB, format_bytes
from p2v.sources.recognition import machine_names

_LARGEST_AUDIT_BYTES = 512 * MIB
_FINDINGS_AT_MOST = 3
_ASIDE_AT_MOST = 20
_LETTERS_AT_MOST = 240
_LOCKED = frozenset({"guest.encrypted", "windows.bitlocker"})
# what every reader of YAML takes for a text
_PLAIN = re.compile(r"[A-Za-z/_][A-Za-z0-9/._+-]*")
_NOT_PLAIN = re.compile(r"(?i)y|n|yes|no|on|off|true|false|null|none|\.nan|\.inf")

_HEAD = f"""\
# A batch of p2v. Edit it, look at it with `p2v batch plan FILE`, convert it with `p2v batch run FILE`; what was begun goes on
# when that is said again. Relative paths begin at the folder of this file.
# docs/schema/batch-{MANIFEST_SCHEMA}.schema.json has every key.
schema: {MANIFEST_SCHEMA}

# What may run at the same time.
budget:
  copies: {Budget().copies}        # machines that copy; one that has copied gives its place back while it is rewritten or booted
  appliances: {Budget().appliances}
  boots: {Budget().boots}
  jobs: {Budget().jobs}          # machines under way, whatever they do
  # bytes-per-second: 200M   # of all copies to one storage, or from one, together
  # copies-per-storage: 1
  # storages:                # what counts instead for one of them, by any path on it
  #   /mnt/nfs1: {{copies: 1, bytes-per-second: 100M}}
  # hosts:                   # of all mounts of a server together, by its name as it was mounted
  #   filer1.example: {{bytes-per-second: 150M}}

# hooks:
#   end: [/usr/local/sbin/tell-the-team]   # gets a JSON document of how the run ended on its standard input

# What counts for every machine that does not say otherwise.
defaults:
  target: converted   # the folder of the results
  verify: none        # boot: a throw-away copy of each result is booted first, and it gets its name if it came up
  # window: 22:00-05:00   # when machines may begin, local time
  # map:                  # what the networks of their descriptions are here
  #   VM Network: bridge:br0
  # keys: all:file:passphrase.txt   # or env:NAME; a passphrase itself never stands here
  # before: [/usr/local/sbin/stop-service]   # gets a JSON document about the machine on its standard input
  # after: [/usr/local/sbin/tell-somebody]

# Each option of `p2v convert` is a key as well, without its dashes (memory: 4G, compress: true, allow: FOLDER), --key as `keys`.
# One with `wave: 1` waits until all of wave 0 have ended; the larger `priority` goes first within a wave.
# A machine that stands here as a comment is taken in by removing "# " from its lines.
machines:
"""


def init_text(paths: Sequence[Path], *, report: Reporter = silent, at_once: int | None = None) -> str:
    """The manifest of what is below paths, or of an audit's document (``p2v audit --json``) where a path is one.

    Nothing is written. Raises NoSource, Usage (a JSON document of something else), and what reading files raises.
    """
    documents = [read_audit(path) for path in paths if _is_json(path)]
    others = [Path(os.path.abspath(path)) for path in paths if not _is_json(path)]
    if others:
        documents.append(_audited(others, report, at_once))
    machines = [machine for each in documents for machine in each.machines]
    aside = [left for each in documents for left in each.left_aside]
    return beginning(machines, aside)


def _audited(paths: Sequence[Path], report: Reporter, at_once: int | None) -> AuditDocument:
    if at_once is not None and at_once < 1:
        raise Usage(f"{at_once} machines at a time: at least 1")
    never = Acceleration(Accelerator.TCG, "no appliance is started for this")
    running = Running(at_once or os.cpu_count() or 1, Bounds())
    return audit(gather(paths), Wish(catalogue(), date.today()), running, lambda: never, report)


def _is_json(path: Path) -> bool:
    """Whether a file can only be a JSON document: none of the descriptions that are known begins like one."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(64).lstrip(b"\xef\xbb\xbf \t\r\n")[:1] == b"{"


def read_audit(path: Path) -> AuditDocument:
    """An audit from its file. Raises NoSource, Usage."""
    try:
        with path.open("rb") as file:
            raw = file.read(_LARGEST_AUDIT_BYTES + 1)
    except OSError as error:
        raise NoSource(str(path), error.strerror or "cannot be read") from error
    hint = "As `p2v audit --json` prints it."
    if len(raw) > _LARGEST_AUDIT_BYTES:
        raise Usage(f"{path}: is larger than an audit can be ({_LARGEST_AUDIT_BYTES} bytes)")
    try:
        data = json.loads(raw)
        if not isinstance(data, dict) or data.get("schema") != AUDIT_SCHEMA:
            raise Usage(f"{path}: is no audit of the form that this version knows ({AUDIT_SCHEMA})", hint)
        return jsonio.decode(jsonio.converter(), data, AuditDocument)
    except (ValueError, RecursionError) as error:
        raise Usage(f"{path}: is no audit: {printable(str(error)[:300], keep='')}", hint) from error


def beginning(machines: Sequence[MachineAudit], aside: Sequence[LeftAside] = ()) -> str:
    """The manifest of machines that were audited; those that cannot be converted stand in it as comments, with the reason."""
    systems = dict(_systems(machines))
    taken: set[str] = set()
    parts = [_entry(each, _name_of(each.name, taken), systems.get(number, "")) for number, each in enumerate(machines)]
    lines = [line for part in parts for line in (*part, "")]
    if not machines:
        lines = ["# No machine was found.", ""]
    if any(not Path(path).is_absolute() for each in machines for path in each.paths):
        lines = ["# Paths are as the audit was given them, and here they begin at the folder of this file.", *lines]
    return _HEAD + "\n".join([*lines, *_aside(aside)]).rstrip("\n") + "\n"


def entries(text: str) -> tuple[int, int]:
    """Of a manifest that was begun: how many machines are in it, and how many stand in it as comments."""
    lines = text.splitlines()
    return sum(line.startswith("- name: ") for line in lines), sum(line.startswith("# - name: ") for line in lines)


def _systems(machines: Sequence[MachineAudit]) -> Iterator[tuple[int, str]]:
    """By their places, the machines that share a package with others: what each is called there."""
    shared: dict[str, list[int]] = {}
    for number, each in enumerate(machines):
        if each.described_by and each.paths:
            shared.setdefault(each.paths[0], []).append(number)
    for path, numbers in shared.items():
        if len(numbers) < 2:
            continue
        try:
            names = machine_names(Path(path))
        except P2vError:
            names = ()
        for place, number in enumerate(numbers):
            yield number, names[place] if len(names) == len(numbers) else machines[number].name


def _name_of(name: str, taken: set[str]) -> str:
    """A name that may be one and that no machine before has."""
    plain = plain_name(name, 56) or "machine"
    made, number = plain, 2
    while made.lower() in taken:
        made, number = f"{plain}-{number}", number + 1
    taken.add(made.lower())
    assert re.fullmatch(NAME, made)
    return made


def _entry(machine: MachineAudit, name: str, system: str) -> list[str]:
    """Its comments, and what it is; as a comment where it is not to be converted."""
    source = list(machine.paths[:1] if machine.described_by else machine.paths)
    reasons = list(_in_the_way(machine, [*source, system]))
    what = [f"- name: {quoted(name)}"]
    if len(source) == 1:
        what.append(f"  source: {quoted(source[0])}")
    else:
        what += ["  source:", *(f"  - {quoted(each)}" for each in source)]
    what += [f"  system: {quoted(system)}"] if system else []
    if any(finding.rule in _LOCKED for finding in machine.findings):
        what.append("  keys: all:file:passphrase.txt   # the file that its passphrase is in")
    if machine.origin is Origin.INVENTORY:
        what[1:] = ["  source: FILE   # its .vmx, .ovf or .ova, or its disks"]
    head = [_comment(_portrait(machine))]
    if name != machine.name:
        head.append(_comment(f"  called {name} here: another machine has its name, or it cannot be a file's"))
    if reasons:
        return [*head, *map(_comment, reasons), *(f"# {line}" for line in what)]
    return [*head, *map(_comment, _to_know(machine)), *what]


def _in_the_way(machine: MachineAudit, texts: Sequence[str]) -> Iterator[str]:
    """Why it is not to be converted, as it is; nothing where it may be."""
    if machine.origin is Origin.INVENTORY:
        yield "left out: only an inventory tells of it, and its disks were not at hand"
        return
    if not machine.paths or not all(map(str.isprintable, texts)):
        yield "left out: its path has bytes in it that a manifest cannot have; give the file or folder another name"
        return
    counted = [each for each in machine.findings if _counts(each)]
    if machine.verdict is Verdict.BLOCKED:
        blockers = [each for each in counted if each.severity is Severity.BLOCKER]
        yield f"left out, since the audit found what blocks it ({len(blockers)}):"
        yield from _findings(blockers)
    elif not machine.disks:
        yield "left out, since nobody could read it:"
        yield from _findings(counted)


def _counts(finding: AuditFinding) -> bool:
    return not finding.suppressed and not finding.fixed_by_conversion


def _to_know(machine: MachineAudit) -> Iterator[str]:
    wanted = (Severity.UNKNOWN, Severity.WARNING)
    yield from _findings([each for each in machine.findings if _counts(each) and each.severity in wanted])


def _findings(findings: Sequence[AuditFinding]) -> Iterator[str]:
    for each in findings[:_FINDINGS_AT_MOST]:
        yield f"  {each.rule}: {each.message}"
        if each.remedy and each.severity is Severity.BLOCKER:
            yield f"    what to do: {each.remedy}"
    if len(findings) > _FINDINGS_AT_MOST:
        yield f"  and {len(findings) - _FINDINGS_AT_MOST} more, which `p2v audit` tells"


def _portrait(machine: MachineAudit) -> str:
    """What it is, in a line."""
    system = machine.system.name if machine.system is not None else ""
    disks = f"{len(machine.disks)} disk{'' if len(machine.disks) == 1 else 's'}"
    size = (
        f"{disks} of {format_bytes(sum(each.virtual_bytes for each in machine.disks))}" if machine.disks else "no disks"
    )
    used = [each.used_bytes for each in machine.disks]
    in_use = sum(each or 0 for each in used)
    if machine.disks and None not in used:
        size += f", {format_bytes(in_use)} in use"
    return f"{machine.name}: {system or 'no known system'}; {size}; {machine.verdict.value}"


def _comment(text: str) -> str:
    """One line, whatever a guest has written into it."""
    cut = text if len(text) <= _LETTERS_AT_MOST else text[: _LETTERS_AT_MOST - 3] + "..."
    return f"# {printable(cut, keep='')}".rstrip()


def _aside(aside: Sequence[LeftAside]) -> list[str]:
    if not aside:
        return []
    lines = [_comment(f"  {each.path}: {each.why}") for each in aside[:_ASIDE_AT_MOST]]
    more = [f"#   and {len(aside) - _ASIDE_AT_MOST} more"] if len(aside) > _ASIDE_AT_MOST else []
    return ["# Looked at, and no machine:", *lines, *more]


def quoted(text: str) -> str:
    """A text as YAML that every reader takes for that text; plain where that is one."""
    if _PLAIN.fullmatch(text) and not _NOT_PLAIN.fullmatch(text):
        return text
    return '"' + "".join(map(_escaped, text)) + '"'


def _escaped(letter: str) -> str:
    if letter in '"\\':
        return f"\\{letter}"
    code = ord(letter)
    if letter.isprintable():
        return letter
    return f"\\x{code:02x}" if code <= 0xFF else f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"
