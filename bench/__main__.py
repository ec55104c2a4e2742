"""``python -m bench [--rows name,...]``: prints the table and writes bench/results.json."""

from __future__ import annotations

import argparse
import compileall
import json
import os
import platform
import sys
import time
from pathlib import Path

from bench import auditing, batching, clustering, moving, paging, rows
from bench.measuring import Outcome, Row

ROWS = (*rows.ROWS, *moving.ROWS, *auditing.ROWS, *batching.ROWS, *clustering.ROWS, *paging.ROWS)
RESULTS = Path(__file__).parent / "results.json"


def main() -> int:
    """Run the rows asked for; 1 when a goal is missed."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--rows", default="", help="names separated by commas (default: all)")
    parser.add_argument("--list", action="store_true", help="name the rows and their peers")
    arguments = parser.parse_args()
    if arguments.list:
        for row in ROWS:
            print(f"{row.name:<30}{row.title}")
        return 0
    chosen = _chosen(arguments.rows)
    _compile()
    table = [_run(row) for row in chosen]
    _print(table)
    # rows that were not run now keep their last figures: each row says when it was measured
    kept = [r for r in _previous() if r["name"] not in {row["name"] for row in table}]
    RESULTS.write_text(json.dumps([*kept, *table], indent=2) + "\n", "utf-8")
    return 0 if all(row["met"] for row in table) else 1


def _chosen(names: str) -> list[Row]:
    wanted = [name for name in names.split(",") if name]
    unknown = set(wanted) - {row.name for row in ROWS}
    if unknown:
        sys.exit(f"no such row: {', '.join(sorted(unknown))} (see --list)")
    return [row for row in ROWS if not wanted or row.name in wanted]


def _compile() -> None:
    """Make the bytecode that an installed program has: a checkout has none where Python is told to write none."""
    top = Path(__file__).resolve().parents[1]
    for package in ("p2v", "converters", "drivers", "bench"):
        compileall.compile_dir(top / package, quiet=1)


def _previous() -> list[dict[str, object]]:
    try:
        return [dict(row) for row in json.loads(RESULTS.read_text("utf-8"))]
    except (OSError, ValueError):
        return []


def _run(row: Row) -> dict[str, object]:
    print(f"{row.name}: {row.title}", flush=True)
    load = os.getloadavg()[0]
    result: Outcome = row.measure(lambda text: print(f"  {text}", flush=True))
    ratio = result.other / result.ours if result.ours else 0.0
    return {
        "name": row.name,
        "ours": round(result.ours, 4),
        "other": round(result.other, 4),
        "unit": row.unit,
        "ratio": round(ratio, 2),
        "goal": row.goal,
        "met": ratio >= row.goal,
        "runs": list(result.runs),
        "detail": result.detail,
        "machine": f"{os.cpu_count()} cores, {platform.machine()}, load before {load:.2f}, after {os.getloadavg()[0]:.2f}",
        "measured": time.strftime("%Y-%m-%d", time.gmtime()),
    }


def _print(table: list[dict[str, object]]) -> None:
    print(f"\n{'row':<30}{'ours':>10}{'other':>10} {'unit':<5}{'ratio':>8}{'goal':>7}  met")
    for row in table:
        print(
            f"{row['name']!s:<30}{row['ours']!s:>10}{row['other']!s:>10} {row['unit']!s:<5}"
            f"{row['ratio']!s:>8}{row['goal']!s:>7}  {'yes' if row['met'] else 'NO'}"
        )
        for line in str(row["detail"]).splitlines():
            print(f"    {line}")


if __name__ == "__main__":
    sys.exit(main())
