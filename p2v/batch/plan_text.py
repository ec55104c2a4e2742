"""The plan of a batch for people: what is in the way first, each thing once, however many machines it is of."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence

from p2v.batch.jobs import State
from p2v.batch.planned import BatchPlan, CopyTime, MachinePlan, SharePlan, StoragePlan
from p2v.core import jsonio, jsontext
from p2v.core.text import printable
from p2v.core.units import format_bytes, format_seconds
from p2v.preflight import Trouble

_NAMED_AT_MOST = 6
_ENDS = ((State.DONE, "converted already"), (State.PARKED, "parked"), (State.CANCELLED, "cancelled"))
_TABLE_AT_MOST = 60
_MESSAGES_AT_MOST = 12
_NAME_LETTERS, _SYSTEM_LETTERS = 32, 36


def plan_json(plan: BatchPlan) -> str:
    """The plan as JSON, with what is summed up in it."""
    summed = {
        "copy_bytes": plan.copy_bytes,
        "copy_unknown": plan.unknown,
        "blocked": [each.name for each in plan.blocked],
        "clear": plan.is_clear,
    }
    data = {"schema": 1, "summary": summed, **jsonio.encode(jsonio.converter(), plan)}
    return jsontext.pretty(json.loads(json.dumps(data)))


def plan_text(plan: BatchPlan, *, everything: bool = False) -> str:
    """The plan; ``everything``: each machine has its line, also where they are many and nothing is to be said of most."""
    lines = [*_head(plan), *_titled("In the way of the whole batch", map(_said, plan.troubles))]
    lines += _titled("Storages", map(_storage, plan.storages))
    lines += _titled("Shares of the budget", map(_share, plan.shares))
    lines += _titled(
        "Blocked", _grouped(plan.blocked, lambda each: each.blockers, None if everything else _MESSAGES_AT_MOST)
    )
    lines += _titled("To know", map(_said, plan.warnings))
    convertible = [each for each in plan.planned if not each.is_blocked]
    lines += _titled("Warnings", _grouped(convertible, lambda each: each.warnings, 1))
    lines += _titled("Left alone", _left_alone(plan))
    lines += _titled("Machines", _table(plan, everything))
    if convertible:
        lines += ["", _next(plan)]
    return "\n".join(lines)


def _next(plan: BatchPlan) -> str:
    if plan.troubles:
        return "Put right what is in the way of the whole batch before `p2v batch run`."
    if plan.blocked:
        return "`p2v batch run` parks those that are blocked, and converts the others."
    return "Nothing is in the way: `p2v batch run` converts them."


def _titled(title: str, lines: Iterator[str] | map[str]) -> list[str]:
    found = list(lines)
    return ["", f"{title}:", *(f"  {line}" for each in found for line in each.split("\n"))] if found else []


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
    needed = (
        f"up to {format_bytes(storage.needed_bytes)}{unknown}, {format_bytes(storage.work_bytes)} beside it meanwhile"
    )
    verdict = "" if storage.fits else " - NOT ENOUGH"
    return (
        f"{names}: {_counted(storage.machines, 'machine')}, {needed}; {format_bytes(storage.free_bytes)} free{verdict}"
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
            apart = at_most is None or len(messages[trouble.code]) <= at_most
            groups.setdefault((trouble.code, trouble.message if apart else ""), []).append((plan, trouble))
    for members in sorted(groups.values(), key=lambda each: -len({plan.name for plan, _ in each})):
        yield _group(members)


def _group(members: Sequence[tuple[MachinePlan, Trouble]]) -> str:
    names = list(dict.fromkeys(f"{plan.name} (line {plan.line})" for plan, _ in members))
    first = members[0][1]
    example = "" if len({trouble.message for _, trouble in members}) == 1 else "for one: "
    lines = [
        f"{_some(names)}: {first.code}",
        f"    {example}{first.message}",
        f"    {first.hint}" if first.hint else "",
    ]
    return "\n".join(line for line in lines if line)


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - _NAMED_AT_MOST} more" if len(names) > _NAMED_AT_MOST else ""
    return ", ".join(names[:_NAMED_AT_MOST]) + more


def _left_alone(plan: BatchPlan) -> Iterator[str]:
    groups: dict[str, list[str]] = {}
    for each in plan.machines:
        if each.left_alone:
            groups.setdefault(each.left_alone, []).append(each.name)
    for why, names in groups.items():
        yield f"{_some(names)}: {printable(why, keep='')}"


def _table(plan: BatchPlan, everything: bool) -> Iterator[str]:
    shown = list(plan.planned)
    if not shown:
        return
    if not everything and len(shown) > _TABLE_AT_MOST:
        # the largest are what decides about the night
        shown = sorted(plan.planned, key=lambda each: -(each.copy_bytes or 0))[:_TABLE_AT_MOST]
    width = max([len("machine"), *(min(len(each.name), _NAME_LETTERS) for each in shown)])
    yield f"{'wave':>4}  {'machine':{width}}  {'to copy':>10}  {'disks':>5}  {'':8}  system"
    for each in shown:
        size = format_bytes(each.copy_bytes) if each.copy_bytes is not None else "?"
        state = "blocked" if each.is_blocked else "warnings" if each.warnings else "ready"
        system = each.system[:_SYSTEM_LETTERS]
        name = each.name if len(each.name) <= _NAME_LETTERS else each.name[: _NAME_LETTERS - 1] + "…"
        yield f"{each.wave:>4}  {name:{width}}  {size:>10}  {each.disks:>5}  {state:8}  {system}".rstrip()
    if len(shown) < len(plan.planned):
        yield f"... the {len(shown)} largest of {len(plan.planned)}"
