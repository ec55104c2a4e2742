"""``make fuzz [RUNS=N] [FORMATS=a,b]``: hostile images for every reader, until something gives way.

Prints a line a target and writes bench/fuzz.json. Findings are saved with their inputs; ``--replay`` runs one again.
Exit status 1 when there are any.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from tests.fuzz.exercise import Exerciser, prepared
from tests.fuzz.sparse import decoded
from tests.fuzz.targets import Target, targets

RESULTS = Path("bench/fuzz.json")
FINDINGS = Path("fuzz-findings")
# A worker that dies is started again for what is left of its runs, so many times.
_RESTARTS = 20


@dataclass(frozen=True)
class Shard:
    """One worker's part of a target."""

    target: Target
    number: int
    runs: int


def main() -> int:
    """Fuzz what was asked for; 1 when anything was found."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--runs", type=int, default=1_000_000, help="inputs for each target (default a million)")
    parser.add_argument("--formats", default="", help="formats or targets, separated by commas (default: all)")
    parser.add_argument("--workers", type=int, default=2, help="processes at a time (default 2)")
    parser.add_argument("--corpus", type=Path, help="folder that keeps interesting inputs from run to run")
    parser.add_argument("--findings", type=Path, default=FINDINGS, help="folder for what is found")
    parser.add_argument("--out", type=Path, default=RESULTS, help="the figures as JSON (default bench/fuzz.json)")
    parser.add_argument("--blind", action="store_true", help="without atheris: mutations not guided by coverage")
    parser.add_argument("--list", action="store_true", help="name the targets")
    parser.add_argument("--replay", type=Path, metavar="INPUT", help="run one saved input again, with --formats TARGET")
    parser.add_argument("--image", type=Path, help="with --replay: also write the image that the input stands for")
    arguments = parser.parse_args()
    chosen = _chosen(arguments.formats)
    if arguments.list:
        print("\n".join(f"{target.id:<18}{target.format or 'what its contents say'}" for target in chosen))
        return 0
    if arguments.replay is not None:
        return _replay(chosen[0], arguments.replay, arguments.image)
    return _fuzz(chosen, arguments)


def _chosen(names: str) -> list[Target]:
    wanted = [name for name in names.split(",") if name]
    known = targets()
    unknown = [n for n in wanted if not any(n in (target.id, target.format) for target in known)]
    if unknown:
        sys.exit(f"no such format or target: {', '.join(unknown)}; known: {', '.join(target.id for target in known)}")
    return [target for target in known if not wanted or target.id in wanted or target.format in wanted]


def _fuzz(chosen: Sequence[Target], arguments: argparse.Namespace) -> int:
    blind = arguments.blind or find_spec("atheris") is None
    if blind and not arguments.blind:
        print("atheris is not installed (pip install -e '.[fuzz]'): mutations are not guided by coverage", file=sys.stderr)
    work = Path(tempfile.mkdtemp(prefix="p2v-fuzz-"))
    shards = [
        Shard(target, number, arguments.runs // arguments.workers + (number < arguments.runs % arguments.workers))
        for target in chosen
        for number in range(arguments.workers)
    ]
    try:
        with ThreadPoolExecutor(arguments.workers) as pool:
            done = list(pool.map(lambda shard: _run_shard(shard, arguments, work, blind=blind), shards))
    finally:
        shutil.rmtree(work, ignore_errors=True)
    rows = [_row(target, [d for s, d in zip(shards, done, strict=True) if s.target is target]) for target in chosen]
    _print(rows)
    _write(rows, arguments.out, engine="blind mutations" if blind else "atheris (libFuzzer, coverage)")
    return 1 if any(row["findings"] for row in rows) else 0


def _run_shard(shard: Shard, arguments: argparse.Namespace, work: Path, *, blind: bool) -> list[dict[str, Any]]:
    """Run one worker, again after each input that kills it; what each of them noted."""
    corpus = (arguments.corpus or work / "corpus") / shard.target.id
    findings = arguments.findings / shard.target.id / str(shard.number)
    noted: list[dict[str, Any]] = []
    left = shard.runs
    for attempt in range(_RESTARTS):
        if left <= 0:
            break
        stats = work / f"{shard.target.id}-{shard.number}-{attempt}.json"
        log = work / f"{shard.target.id}-{shard.number}-{attempt}.log"
        command = [
            sys.executable, "-m", "tests.fuzz.worker", "--target", shard.target.id, "--runs", str(left),
            "--seed", str(1 + shard.number + 100 * attempt + int(time.time()) % 1000 * 10_000), "--corpus",
            str(corpus / str(shard.number)), "--findings", str(findings), "--stats", str(stats),
            *(["--blind"] if blind else []),
        ]  # fmt: skip
        with log.open("wb") as sink:
            status = subprocess.run(command, stdout=sink, stderr=sink, stdin=subprocess.DEVNULL, check=False).returncode
        found: dict[str, Any] = {"runs": 0, "outcomes": {}, "findings": {}}
        if stats.exists():
            found = json.loads(stats.read_text())
        noted.append(found)
        left -= max(found["runs"], 1)
        if status != 0:
            found["findings"] |= _death(status, log, findings)
        elif not found["runs"]:
            sys.exit(f"{shard.target.id}: the worker did nothing:\n{log.read_text(errors='replace')[-2000:]}")
        else:
            break
    return noted


def _death(status: int, log: Path, findings: Path) -> dict[str, str]:
    """A worker that ended by itself: libFuzzer leaves the input as died-..., and its last words."""
    findings.mkdir(parents=True, exist_ok=True)
    words = log.read_text(errors="replace")[-20_000:]
    name = f"died-{int(time.time())}"
    (findings / f"{name}.txt").write_text(words)
    return {f"FINDING the process died with status {status}": name}


def _row(target: Target, shards: Sequence[Sequence[dict[str, Any]]]) -> dict[str, Any]:
    noted = [stats for shard in shards for stats in shard]
    outcomes: Counter[str] = Counter()
    for stats in noted:
        outcomes.update(stats["outcomes"])
    runs = sum(stats["runs"] for stats in noted)
    seconds = sum(stats.get("seconds", 0.0) for stats in noted)
    return {
        "target": target.id, "format": target.format, "runs": runs, "process_seconds": round(seconds, 1),
        "runs_per_second_and_core": round(runs / seconds) if seconds else 0,
        "read": outcomes["read"], "unique_outcomes": len(outcomes),
        "slowest_seconds": round(max((stats.get("slowest_seconds", 0.0) for stats in noted), default=0.0), 3),
        "peak_mib": max((stats.get("peak_bytes", 0) for stats in noted), default=0) >> 20,
        "findings": sorted({text for stats in noted for text in stats["findings"]}),
        "outcomes": dict(outcomes.most_common()),
    }  # fmt: skip


def _print(rows: Sequence[dict[str, Any]]) -> None:
    print(f"{'TARGET':<18}{'INPUTS':>10}{'A SECOND':>10}{'READ':>9}{'OUTCOMES':>10}{'SLOWEST':>10}{'PEAK':>9}  FINDINGS")
    for row in rows:
        print(
            f"{row['target']:<18}{row['runs']:>10}{row['runs_per_second_and_core']:>10}{row['read']:>9}"
            f"{row['unique_outcomes']:>10}{row['slowest_seconds']:>8.3f} s{row['peak_mib']:>5} MiB  {len(row['findings'])}"
        )
        for text in row["findings"]:
            print(f"    {text}")


def _write(rows: Sequence[dict[str, Any]], out: Path, engine: str) -> None:
    when = time.strftime("%Y-%m-%d", time.gmtime())
    for row in rows:
        row |= {"engine": engine, "measured": when, "python": platform.python_version()}
    kept: list[dict[str, Any]] = []
    if out.exists():
        # targets that were not run now keep their last figures
        kept = [old for old in json.loads(out.read_text("utf-8")) if old["target"] not in {row["target"] for row in rows}]
    out.write_text(json.dumps(sorted([*kept, *rows], key=lambda row: str(row["target"])), indent=2) + "\n", "utf-8")


def _replay(target: Target, saved: Path, image: Path | None) -> int:
    file = decoded(saved.read_bytes())
    file.size = min(file.size, target.largest)
    if image is not None:
        fd = os.open(image, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        file.put(fd)
        os.close(fd)
    with tempfile.TemporaryDirectory(prefix="p2v-fuzz-") as folder:
        beside, _ = prepared(target, Path(folder))
        outcome = Exerciser(target, beside).run(saved.read_bytes())
    print(f"{outcome.text}, {outcome.seconds:.3f} s\n{outcome.finding}")
    return 1 if outcome.finding else 0


if __name__ == "__main__":
    sys.exit(main())
