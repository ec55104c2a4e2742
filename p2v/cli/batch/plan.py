"""``p2v batch plan [JOBS]``: what a run would do: every mistake and blocker at once, what is to be copied, and how long.

Nothing is written but what --measure needs. 0: nothing is in the way; 4: a machine would be parked at once, or two of
them stand in each other's way.
"""

from __future__ import annotations

import argparse
import time

from p2v.batch.jobs import Batch
from p2v.batch.measuring import with_time
from p2v.batch.outlook import Start, with_outlook
from p2v.batch.plan_text import plan_json, plan_text
from p2v.batch.planned import BatchPlan
from p2v.batch.planning import plan_batch
from p2v.batch.share_plans import places_for
from p2v.cli import console, options, planned_jobs
from p2v.cli.batch import choosing
from p2v.cli.batch.which import add_manifest, manifest_of, standing_of

_IN_THE_WAY = 4


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the verb's options."""
    add_manifest(parser)
    parser.add_argument(
        "--at-once", type=int, metavar="N", help="machines planned at the same time (default: one a processor)"
    )
    parser.add_argument(
        "--measure", action="store_true",
        help="measure how quick the storages are, and say how long copying takes: writes scratch files, which are gone afterwards",
    )  # fmt: skip
    parser.add_argument(
        "--begin", type=choosing.moment, metavar="TIME",
        help="tell how it goes when the run begins at this local time (20:00: the next time it is that late) instead of now",
    )  # fmt: skip
    parser.add_argument("--all", action="store_true", help="a line for every machine, also of a large fleet")
    parser.add_argument("--json", action="store_true", help="as a JSON document")
    options.add_progress(parser)
    choosing.configure(parser)


def run(arguments: argparse.Namespace) -> int:
    """Plan and print."""
    batch = manifest_of(arguments.batch)
    plan = _planned(arguments, batch)
    if arguments.json:
        console.out_json(plan_json(plan))
    else:
        console.out(plan_text(plan, everything=arguments.all))
    return 0 if plan.is_clear else _IN_THE_WAY


def _planned(arguments: argparse.Namespace, batch: Batch) -> BatchPlan:
    standing = standing_of(batch)
    states = {job.machine.name: job.state for job in standing.jobs}
    chosen = choosing.chosen(arguments, batch.machines)
    report = console.reporter(arguments.progress)
    # once: a mount that does not answer is waited for
    places = places_for(batch)
    plan = plan_batch(
        batch, planned_jobs.planner(), report=report, at_once=arguments.at_once, states=states, places=places, chosen=chosen
    )
    if arguments.measure:
        plan = with_time(batch, plan, places=places)
    begin = time.time() if arguments.begin is None else arguments.begin
    start = Start(begin, arguments.until, arguments.stop_at, standing.jobs, standing.terms.sizes)
    return with_outlook(batch, plan, places, start)
