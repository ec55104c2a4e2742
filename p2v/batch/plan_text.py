"""The plan of a batch for people: what is in the way first, each thing once, however many machines it is of."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Callable, Iterator, Sequence

from p2v.batch.estimate import roughly
from p2v.batch.jobs import State
from p2v.batch.outlook import TOO_LONG
from p2v.batch.outlook_text import outlook_words, timeline
from p2v.batch.planned import BatchPlan, CopyTime, MachinePlan, PlanHead, SharePlan, StoragePlan
from p2v.batch.preflight import NO_KEY
from p2v.core import jsonio, jsontext
from p2v.core.text import listed, printable
from p2v.core.units import format_bytes, format_seconds
from p2v.preflight import Trouble

_COLUMNS = 120
_ENDS = ((State.DONE, "converted already"), (State.PARKED, "parked"), (State.CANCELLED, "cancelled"))
_TABLE_AT_MOST = 60
_MESSAGES_AT_MOST = 12
_NAME_LETTERS, _SYSTEM_LETTERS = 32, 36
# advice is of `p2v convert`
_OPTION = re.compile(r"(?<![\w-])--[a-z]")
_AS_KEYS = "An option that is named here is a key in the manifest: --map NAME=NETWORK is `map: {NAME: NETWORK}`, --key is `keys`."


def plan_json(plan: BatchPlan) -> str:
    """The plan as JSON, with what is summed up in it."""
    conv = jsonio.converter()
    return jsontext.pretty(jsonio.encode(conv, PlanHead(summary=plan.summary)) | jsonio.encode(conv, plan))


def plan_text(plan: BatchPlan, *, everything: bool = False) -> str:
    """The plan; ``everything``: each machine has its line, also where they are many and nothing is to be said of most."""
    lines = [*_head(plan), *_titled("In the way of the whole batch", map(_said, plan.troubles))]
    lines += _titled("Timeline", _timeline(plan))
    lines += _titled("Keys that are missing, without which machines are blocked", _keys(plan))
    lines += _titled("Room where the results go", map(_storage, plan.storages))
    lines += _titled("Shares of the budget", map(_share, plan.shares))
    lines += _titled(
        "Blocked", _grouped(plan.blocked, _other_blockers, None if everything else _MESSAGES_AT_MOST)
    )
    lines += _titled("To know", map(_said, plan.warnings))
    convertible = [each for each in plan.planned if not each.is_blocked]
    lines += _titled("Warnings", _grouped(convertible, _other_warnings, 1))
    lines += _titled("Left alone", _left_alone(plan))
    lines += _titled("Machines", _table(plan, everything))
    said = [trouble for each in plan.planned for trouble in (*each.blockers, *each.warnings)]
    if any(_OPTION.search(trouble.hint) for trouble in said):
        lines += ["", _AS_KEYS]
    if convertible:
        lines += ["", _next(plan)]
    return "\n".join(lines)


def _timeline(plan: BatchPlan) -> Iterator[str]:
    if plan.outlook is None:
        return
    names = {each.name: each.called for each in plan.machines}
    yield from timeline(plan.outlook, names)
    too_long = _too_long(plan)
    yield from too_long[:_MESSAGES_AT_MOST]
    if (more := len(too_long) - _MESSAGES_AT_MOST) > 0:
        yield f"and {more} more that are longer than their windows (--json has them)"


def _too_long(plan: BatchPlan) -> list[str]:
    return [
        f"{each.called}: {trouble.message}"
        for each in plan.planned
        for trouble in each.warnings
        if trouble.code == TOO_LONG
    ]


def _other_warnings(plan: MachinePlan) -> Sequence[Trouble]:
    return [each for each in plan.warnings if each.code != TOO_LONG]


def _other_blockers(plan: MachinePlan) -> Sequence[Trouble]:
    return [each for each in plan.blockers if each.code != NO_KEY]


def _keys(plan: BatchPlan) -> Iterator[str]:
    lines = {each.name: each.called for each in plan.planned}
    said = {key: trouble for each in plan.planned for key, trouble in zip(each.missing_keys, _no_key(each), strict=False)}
    for key, names in plan.missing_keys.items():
        yield f"{printable(key, keep='')}: {listed([lines[name] for name in names])}"
        if key in said:
            yield f"    {said[key].message}\n    {said[key].hint}"


def _no_key(plan: MachinePlan) -> Iterator[Trouble]:
    return (each for each in plan.blockers if each.code == NO_KEY)


def _next(plan: BatchPlan) -> str:
    if plan.troubles:
        return "Put right what is in the way of the whole batch before `p2v batch run`."
    if plan.blocked:
        return "`p2v batch run` parks those that are blocked, and converts the others."
    return "Nothing is in the way: `p2v batch run` converts them."


def _titled(title: str, lines: Iterator[str] | map[str]) -> list[str]:
    found = list(lines)
    return ["", f"{title}:", *(line for each in found for line in _wrapped(each))] if found else []


def _wrapped(text: str) -> Iterator[str]:
    """Between words, further lines below the first one's beginning."""
    for line in text.split("\n"):
        indent = " " * (2 + len(line) - len(line.lstrip()))
        yield from textwrap.wrap(
            line.lstrip(), _COLUMNS, initial_indent=indent, subsequent_indent=indent, break_long_words=False,
            break_on_hyphens=False, drop_whitespace=True,
        ) if len(line) > _COLUMNS else [f"  {line}"]  # fmt: skip


def _head(plan: BatchPlan) -> Iterator[str]:
    waves = len({each.wave for each in plan.machines})
    going = len(plan.planned) - len(plan.blocked)
    parts = [f"{going} can be converted", f"{len(plan.blocked)} blocked" if plan.blocked else ""]
    ends = [(sum(each.state is state for each in plan.machines), words) for state, words in _ENDS]
    alone = len(plan.machines) - len(plan.planned) - sum(count for count, _ in ends)
    parts += [f"{count} {words}" if count else "" for count, words in ends]
    parts += [f"{alone} left alone" if alone else "", f"{waves} waves" if waves > 1 else ""]
    count = _counted(len(plan.machines), "machine")
    yield f"Plan of {printable(str(plan.manifest), keep='')}: {count}: {', '.join(part for part in parts if part)}"
    if not going:
        return
    of = sum(each.virtual_bytes for each in plan.planned if not each.is_blocked)
    unknown = f", and what {_counted(plan.unknown, 'machine')} more take" if plan.unknown else ""
    yield f"To copy: {format_bytes(plan.copy_bytes)}{unknown}, of disks of {format_bytes(of)}"
    if plan.outlook is not None:
        yield f"Time: {outlook_words(plan.outlook)}"
    yield f"Time to copy: {_time(plan.time)}"


def _counted(count: int, what: str, several: str = "") -> str:
    return f"{count} {what if count == 1 else several or what + 's'}"


def _time(time: CopyTime) -> str:
    if time.seconds is None:
        return time.why
    low, high = time.seconds.low, time.seconds.high
    if high is None:
        words = f"at least {format_seconds(low)}"
    else:
        words = f"{format_seconds(low)} to {format_seconds(high)}" if high >= 1 else "less than a second"
    return f"{words} ({time.why})" if time.why else words


def _storage(storage: StoragePlan) -> str:
    folders = [printable(str(each), keep="") for each in storage.folders]
    names = ", ".join(folders[:3]) + (f" and {len(folders) - 3} more folders" if len(folders) > 3 else "")
    unknown = f", and what {_counted(storage.unknown, 'machine')} more take" if storage.unknown else ""
    left = storage.free_bytes - storage.needed_bytes - storage.work_bytes
    verdict = f"leaves {format_bytes(left)}" if storage.fits else f"NOT ENOUGH: {format_bytes(-left)} are missing"
    writes = "writes" if storage.machines == 1 else "write"
    return (
        f"{names}\n    {_counted(storage.machines, 'machine')} {writes} up to {format_bytes(storage.needed_bytes)}{unknown}, "
        f"and {format_bytes(storage.work_bytes)} beside it meanwhile;\n"
        f"    {format_bytes(storage.free_bytes)} are free: {verdict}"
    )


def _share(share: SharePlan) -> str:
    name = printable(str(share.path) if share.path is not None else f"server {share.host}", keep="")
    copies = "" if share.copies is None else f"{_counted(share.copies, 'copy', 'copies')} at a time"
    rate = "" if share.bytes_per_second is None else f"{format_bytes(share.bytes_per_second)} a second together"
    bounds = ", ".join(each for each in (copies, rate) if each) or "no bounds"
    return f"{name}: {bounds}; {_counted(share.machines, 'machine')}, {format_bytes(share.copy_bytes)} to copy"


def _said(trouble: Trouble) -> str:
    return f"{trouble.message}\n    {trouble.hint}" if trouble.hint else trouble.message


def _grouped(
    plans: Sequence[MachinePlan], of: Callable[[MachinePlan], Sequence[Trouble]], at_most: int | None
) -> Iterator[str]:
    """Each trouble once, with those that have it, the most frequent first.

    Troubles of one code are told apart by their words while those are no more than ``at_most`` (None: always); else one is shown.
    """
    messages: dict[str, set[str]] = {}
    for trouble in (each for plan in plans for each in of(plan)):
        messages.setdefault(trouble.code, set()).add(trouble.message)
    groups: dict[tuple[str, str], list[tuple[MachinePlan, Trouble]]] = {}
    for plan in plans:
        for trouble in of(plan):
            # who clashes with whom is what matters about a clash
            most = _MESSAGES_AT_MOST if at_most is not None and trouble.code.startswith("fleet.") else at_most
            apart = most is None or len(messages[trouble.code]) <= most
            groups.setdefault((trouble.code, trouble.message if apart else ""), []).append((plan, trouble))
    for members in sorted(groups.values(), key=lambda each: -len({plan.name for plan, _ in each})):
        yield _group(members)


def _group(members: Sequence[tuple[MachinePlan, Trouble]]) -> str:
    names = list(dict.fromkeys(plan.called for plan, _ in members))
    first = members[0][1]
    example = "" if len({trouble.message for _, trouble in members}) == 1 else "for one: "
    lines = [
        f"{listed(names)}: {first.code}",
        f"    {example}{first.message}",
        f"    {first.hint}" if first.hint else "",
    ]
    return "\n".join(line for line in lines if line)


def _left_alone(plan: BatchPlan) -> Iterator[str]:
    groups: dict[str, list[str]] = {}
    for each in plan.machines:
        if each.left_alone:
            groups.setdefault(each.left_alone, []).append(each.name)
    for why, names in groups.items():
        yield f"{listed(names)}: {printable(why, keep='')}"


def _table(plan: BatchPlan, everything: bool) -> Iterator[str]:
    shown = list(plan.planned)
    if not shown:
        return
    if not everything and len(shown) > _TABLE_AT_MOST:
        # the largest are what decides about the night
        shown = sorted(plan.planned, key=lambda each: -(each.copy_bytes or 0))[:_TABLE_AT_MOST]
    width = max([len("machine"), *(min(len(each.name), _NAME_LETTERS) for each in shown)])
    yield f"{'wave':>4}  {'machine':{width}}  {'to copy':>10}  {'alone':>11}  {'disks':>5}  {'':8}  system"
    for each in shown:
        size = format_bytes(each.copy_bytes) if each.copy_bytes is not None else "?"
        state = "blocked" if each.is_blocked else "warnings" if each.warnings else "ready"
        system = each.system[:_SYSTEM_LETTERS]
        takes = "" if each.takes_seconds is None or each.is_blocked else roughly(each.takes_seconds)
        takes = "< 1 min" if takes.startswith("less") else takes
        name = each.name if len(each.name) <= _NAME_LETTERS else each.name[: _NAME_LETTERS - 1] + "…"
        yield f"{each.wave:>4}  {name:{width}}  {size:>10}  {takes:>11}  {each.disks:>5}  {state:8}  {system}".rstrip()
    if len(shown) < len(plan.planned):
        yield f"... the {len(shown)} largest of {len(plan.planned)}"
