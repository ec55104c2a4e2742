"""A batch on a real NFS, with the Linux client and its servers, in a machine that is started for it (docs/batch.md, "On NFS").

``P2V_NFS_FIGURES`` names a folder that figures are written to as JSON.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from itertools import count
from pathlib import Path

import pytest

from tests.batch.nfs.host import Answer, Machine, code_image, machine, why_not

pytestmark = [
    pytest.mark.matrix,
    pytest.mark.timeout(4200),
    pytest.mark.xdist_group("nfs"),
    pytest.mark.skipif(bool(why_not()), reason=why_not()),
]

ROWS = (
    ("files", "4.2"),
    ("files", "4.1"),
    ("files", "3"),
    ("names", "4.2"),
    ("names", "3"),
    ("locks", "4.2"),
    ("locks", "3"),
    ("refusals", "4.2"),
    ("refusals", "3"),
    ("whole", "4.2"),
    ("whole", "3"),
    ("server stopped", "4.2"),
    ("server killed", "4.2"),
    ("runner killed", "4.2"),
    ("source replaced", "3"),
    ("full", "4.2"),
    ("squashed", "4.2"),
    ("store", "4.2"),
)

Ask = Callable[[str, str], Answer]


@pytest.fixture(scope="module")
def ask(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ask]:
    """Asks the machine for a row. After a failure it is another machine: what hangs cannot be ended."""
    folder = tmp_path_factory.mktemp("nfs")
    image = code_image(folder)
    stack, running, numbers = ExitStack(), list[Machine](), count(1)

    def asked(row: str, version: str) -> Answer:
        if not running:
            running.append(stack.enter_context(machine(folder / f"machine{next(numbers)}", image)))
        is_good = False
        try:
            answer = running[0].row(row, version)
            is_good = not answer.failed
            return answer
        finally:
            if not is_good:
                running.clear()
                stack.close()

    with stack:
        yield asked
    image.unlink()


@pytest.mark.parametrize(("row", "version"), ROWS, ids=[" ".join(each).replace(" ", "-") for each in ROWS])
def test_on_nfs(ask: Ask, row: str, version: str) -> None:
    answer = ask(row, version)
    assert not answer.failed, f"{answer.failed}\n{answer.log[-8000:]}"
    print(json.dumps(answer.told))
    if (place := os.environ.get("P2V_NFS_FIGURES")) is not None:
        Path(place, f"{row.replace(' ', '-')}-{version}.json").write_text(json.dumps(answer.told, indent=1))
