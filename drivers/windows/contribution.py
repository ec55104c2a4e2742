"""What one planner of Windows guests adds to a plan; edits of one hive, from whomever, become one change."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from drivers.changes import Change, EditHive
from drivers.plan import Finding
from drivers.windows.edits import HiveEdit, target
from drivers.windows.facts import WindowsFacts
from drivers.windows.uninstalling import Uninstall

_REASONS_AT_MOST, _LETTERS_AT_MOST = 3, 110


@dataclass(frozen=True, slots=True)
class WindowsContribution:
    """Edits by the name of the hive (``SYSTEM``), other changes, and findings about one noun, in a stable order.

    ``first_boot``: what the guest itself is to uninstall at its first start.
    """

    edits: Mapping[str, tuple[HiveEdit, ...]] = field(default_factory=dict)
    changes: tuple[Change, ...] = ()
    warnings: tuple[Finding, ...] = ()
    blockers: tuple[Finding, ...] = ()
    first_boot: tuple[Uninstall, ...] = ()


def joined(contributions: Iterable[WindowsContribution]) -> WindowsContribution:
    """All of them as one, in their order; of edits that are the same but for their reason the first stays."""
    given = tuple(contributions)
    names = dict.fromkeys(name for part in given for name in part.edits)
    return WindowsContribution(
        {name: tuple(_distinct(edit for part in given for edit in part.edits.get(name, ()))) for name in names},
        tuple(change for part in given for change in part.changes),
        tuple(warning for part in given for warning in part.warnings),
        tuple(blocker for part in given for blocker in part.blockers),
        tuple(step for part in given for step in part.first_boot),
    )


def _distinct(edits: Iterable[HiveEdit]) -> Iterator[HiveEdit]:
    """Raises ValueError for two edits of one target that differ: a bug of the planners."""
    seen: dict[tuple[str, str | None], HiveEdit] = {}
    for edit in edits:
        known = seen.setdefault(target(edit), edit)
        if known is edit:
            yield edit
        elif _without_reason(known) != _without_reason(edit):
            raise ValueError(f"two planners want different things of {edit.key}")


def _without_reason(edit: HiveEdit) -> tuple[object, ...]:
    return (type(edit), *(getattr(edit, name) for name in edit.__dataclass_fields__ if name != "why"))


def hive_changes(windows: WindowsFacts, edits: Mapping[str, tuple[HiveEdit, ...]]) -> tuple[EditHive, ...]:
    """One change for each hive that is edited; its reason is those of its edits, as far as a line holds them."""
    found = []
    for name, of_hive in edits.items():
        hive = windows.registry[name]
        if of_hive:
            found.append(EditHive(hive.path, hive.size, hive.sha256, of_hive, _why(of_hive), hive.logs))
    return tuple(found)


def _why(edits: tuple[HiveEdit, ...]) -> str:
    """The reasons as far as they are few and short; the rest stand beside what they are the reasons of."""
    reasons = list(dict.fromkeys(edit.why for edit in edits))
    told = reasons[:1]
    for reason in reasons[1:_REASONS_AT_MOST]:
        if len("; ".join((*told, reason))) > _LETTERS_AT_MOST:
            break
        told.append(reason)
    more = len(reasons) - len(told)
    return "; ".join((*told, *([f"and {more} more, each beside its value"] if more > 0 else [])))
