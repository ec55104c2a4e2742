"""``p2v disk convert`` of block devices, which may be in use."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path

from p2v.cli.disk import used_blocks
from p2v.cli.disk.copying import Copying
from p2v.cli.disk.made import Made
from p2v.cli.disk.source import open_spec
from p2v.consistency import LiveSource, LiveWish, Way
from p2v.core import events
from p2v.core.events import Reporter
from p2v.core.run import SystemRunner
from p2v.core.workspace import require_space
from p2v.live_sources import held_still, look_over, require_plain, unrepeatable


def copy(copying: Copying, wish: LiveWish) -> Made:
    """Copy a device, in the best way where it is in use. Raises SourceInUse where the user does not want that."""
    live = who_uses(copying.spec.path, wish, copying.report)
    return _copy_live(copying, live, wish) if live else copying.at_rest()


def who_uses(device: Path, wish: LiveWish, report: Reporter) -> tuple[LiveSource, ...]:
    """How a device is copied that is in use; nothing where it is not. Raises SourceInUse where the user does not want that."""
    seen = look_over([device], wish, SystemRunner())
    for warning in seen.warnings:
        report(events.Warned(warning.message))
    return seen.live


def _copy_live(copying: Copying, live: tuple[LiveSource, ...], wish: LiveWish) -> Made:
    """Nothing of it is kept for a next run, to whose pieces it would not fit."""
    gone, report = threading.Event(), copying.report
    copying.forget_if_fresh()
    with held_still(live, [copying.spec.path], wish, SystemRunner(), report, gone.set) as still:
        with open_spec(replace(copying.spec, path=still.paths[0])) as disk:
            require_plain(live, [disk.facts.format])
            wants = copying.arguments.used_blocks
            if wants and live[0].way is Way.AS_IT_RUNS:
                report(events.Warned("what is free now may be in use when it is copied: the whole disk is copied"))
                wants = False
            view, unused = used_blocks.view_of(disk, report, used_blocks=wants)
            require_space(copying.final.parent, copying.space_needed(view))
            with copying.target(disk.virtual_size, unrepeatable()) as target:
                try:
                    copied = copying.copy(view, target, gone)
                    disk.close()
                    done = still.release()
                except BaseException:
                    target.discard()
                    raise
                target.publish(copying.final)
    return Made(copying.final, copying.format.value, copied, copying.layout, unused, target.lost.ranges, done)
