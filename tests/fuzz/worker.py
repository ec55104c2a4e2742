"""Fuzzes one target in this process: ``python -m tests.fuzz.worker``, started by ``python -m tests.fuzz``.

With atheris the readers are instrumented and libFuzzer chooses what to mutate by what it reached; without it seeds are
mutated blindly. Findings do not end the run, but for those that kill the process.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import random
import resource
import shutil
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tests.fuzz.exercise import Exerciser, Outcome
    from tests.fuzz.targets import Target

LONGEST_INPUT = 64 * 1024
_NOTED_EVERY = 2000
_FINDINGS_KEPT = 200
# libFuzzer's own corpus and Python's heap grow over a long run; single inputs are measured by their peaks.
_ADDRESS_SPACE_BEYOND = 1 << 30
# A hang within C code, which no Python signal handler ends.
_HARD_SECONDS = 60


@dataclass
class Stats:
    """What happened so far, written down now and then: a worker may die at any input."""

    file: Path
    findings_folder: Path
    started: float = field(default_factory=time.monotonic)
    runs: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    findings: dict[str, str] = field(default_factory=dict)
    slowest_seconds: float = 0.0
    slowest_input: str = ""

    def note(self, data: bytes, outcome: Outcome, peak: int) -> None:
        """Take one outcome; a finding of a new kind is saved with its input."""
        self.runs += 1
        self.outcomes[outcome.text] += 1
        if outcome.seconds > self.slowest_seconds:
            self.slowest_seconds = outcome.seconds
            self.slowest_input = hashlib.sha256(data).hexdigest()[:16]
            (self.findings_folder / "slowest.input").write_bytes(data)
        if outcome.finding and outcome.text not in self.findings and len(self.findings) < _FINDINGS_KEPT:
            name = hashlib.sha256(outcome.text.encode()).hexdigest()[:12]
            (self.findings_folder / f"{name}.input").write_bytes(data)
            (self.findings_folder / f"{name}.txt").write_text(f"{outcome.text}\n{outcome.finding}")
            self.findings[outcome.text] = name
            self.write(peak)
        if self.runs % _NOTED_EVERY == 0:
            self.write(peak)

    def write(self, peak: int) -> None:
        """Write all of it down."""
        document: dict[str, Any] = {
            "runs": self.runs, "seconds": time.monotonic() - self.started, "outcomes": dict(self.outcomes),
            "findings": self.findings, "slowest_seconds": self.slowest_seconds, "slowest_input": self.slowest_input,
            "peak_bytes": peak,
        }  # fmt: skip
        self.file.write_text(json.dumps(document))


def main() -> int:
    """Run to the number of inputs asked for."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz.worker")
    parser.add_argument("--target", required=True)
    parser.add_argument("--runs", type=int, required=True)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--corpus", type=Path, required=True)
    parser.add_argument("--findings", type=Path, required=True)
    parser.add_argument("--stats", type=Path, required=True)
    parser.add_argument("--blind", action="store_true", help="without atheris")
    arguments = parser.parse_args()
    arguments.findings.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix="p2v-fuzz-", dir="/dev/shm" if Path("/dev/shm").is_dir() else None))
    try:
        return _blindly(arguments, work) if arguments.blind else _with_atheris(arguments, work)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _with_atheris(arguments: argparse.Namespace, work: Path) -> int:
    import atheris

    from tests.fuzz import mutate, sparse

    # The readers are imported in here and nowhere before, or they would not be instrumented.
    with atheris.instrument_imports(include=["converters", "p2v.sources", "drivers.windows"]):
        target, exerciser = _ready(arguments, work)
    stats = Stats(arguments.stats, arguments.findings)

    def one_input(data: bytes) -> None:
        outcome = exerciser.run(data)
        stats.note(data, outcome, exerciser.peak)
        # libFuzzer does not come back from its last input
        if stats.runs >= arguments.runs:
            stats.write(exerciser.peak)
            shutil.rmtree(work, ignore_errors=True)

    def mutator(data: bytes, longest: int, seed: int) -> bytes:
        noise = random.Random(seed)
        if noise.randrange(10) == 0:
            return bytes(atheris.Mutate(data, longest))
        if target.is_text and noise.randrange(4):
            return mutate.mutated_words(sparse.decoded(data), noise).encoded()[:longest]
        file = mutate.mutated(sparse.decoded(data), noise, atheris.Mutate)
        if target.fix is not None and noise.getrandbits(1):
            target.fix(file)
        return file.encoded()[:longest]

    options = [
        f"-runs={arguments.runs}", f"-seed={arguments.seed}", f"-max_len={LONGEST_INPUT}", "-len_control=0",
        f"-timeout={_HARD_SECONDS}", "-rss_limit_mb=0", f"-artifact_prefix={arguments.findings}/died-",
        "-reload=0", "-print_final_stats=1",
    ]  # fmt: skip
    atheris.Setup([sys.argv[0], *options, str(arguments.corpus)], one_input, custom_mutator=mutator)
    _limit_memory()
    atheris.Fuzz()
    return 0


def _blindly(arguments: argparse.Namespace, work: Path) -> int:
    from tests.fuzz import mutate, sparse

    target, exerciser = _ready(arguments, work)
    stats = Stats(arguments.stats, arguments.findings)
    noise = random.Random(arguments.seed)
    inputs = [path.read_bytes() for path in sorted(arguments.corpus.iterdir())]
    _limit_memory()
    waiting = list(inputs)
    while stats.runs < arguments.runs:
        data = waiting.pop() if waiting else _mutation(noise.choice(inputs), target, noise, mutate, sparse)
        outcome = exerciser.run(data)
        # what ended in a way not seen before is worth mutating further
        if outcome.text not in stats.outcomes and data not in inputs:
            inputs.append(data)
        stats.note(data, outcome, exerciser.peak)
    stats.write(exerciser.peak)
    return 0


def _mutation(data: bytes, target: Target, noise: random.Random, mutate: Any, sparse: Any) -> bytes:
    change = mutate.mutated_words if target.is_text and noise.randrange(4) else mutate.mutated
    file = change(sparse.decoded(data), noise)
    if target.fix is not None and noise.getrandbits(1):
        target.fix(file)
    return bytes(file.encoded()[:LONGEST_INPUT])


def _ready(arguments: argparse.Namespace, work: Path) -> tuple[Target, Exerciser]:
    """The target with its files in place; the corpus gets the seeds if it has none."""
    from tests.fuzz.exercise import Exerciser, prepared
    from tests.fuzz.sparse import from_file
    from tests.fuzz.targets import targets

    target = next(each for each in targets() if each.id == arguments.target)
    beside, seeds = prepared(target, work / "images")
    arguments.corpus.mkdir(parents=True, exist_ok=True)
    if not any(arguments.corpus.iterdir()):
        for seed in seeds:
            (arguments.corpus / f"seed-{seed.name}").write_bytes(from_file(seed).encoded())
    return target, Exerciser(target, beside)


def _limit_memory() -> None:
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + _ADDRESS_SPACE_BEYOND
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


if __name__ == "__main__":
    sys.exit(main())
