"""A batch on a real NFS, with the Linux client and its servers, in a machine that is started for it (docs/batch.md, "On NFS").

``P2V_NFS_FIGURES`` names a folder that figures are written to as JSON.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
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
    ("files", "kernel", "4.2"),
    ("files", "kernel", "4.1"),
    ("files", "kernel", "3"),
    ("names", "kernel", "4.2"),
    ("names", "kernel", "3"),
    ("locks", "kernel", "4.2"),
    ("locks", "kernel", "3"),
    ("refusals", "kernel", "4.2"),
    ("refusals", "kernel", "3"),
    ("whole", "kernel", "4.2"),
    ("whole", "kernel", "3"),
    ("whole", "ganesha", "4.1"),
    ("server stopped", "kernel", "4.2"),
    ("server stopped", "ganesha", "4.1"),
    ("server killed", "kernel", "4.2"),
    ("server killed", "ganesha", "4.1"),
    ("runner killed", "kernel", "4.2"),
    ("source replaced", "kernel", "3"),
    ("full", "kernel", "4.2"),
    ("squashed", "kernel", "4.2"),
    ("store", "kernel", "4.2"),
)

Ask = Callable[[str, str, str], Answer]


@pytest.fixture(scope="module")
def ask(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ask]:
    """Asks the machine for a row. After a failure it is another machine: what hangs cannot be ended."""
    folder = tmp_path_factory.mktemp("nfs")
    image = code_image(folder)
    stack, running, count = ExitStack(), list[Machine](), 0

    def asked(row: str, kind: str, version: str) -> Answer:
        nonlocal count
        if not running:
            count += 1
            running.append(stack.enter_context(machine(folder / f"machine{count}", image)))
        try:
            answer = running[0].row(row, kind, version)
        except BaseException:
            running.clear()
            stack.close()
            raise
        if answer.failed:
            running.clear()
            stack.close()
        return answer

    with stack:
        yield asked
    image.unlink()


@pytest.mark.parametrize(("row", "kind", "version"), ROWS, ids=[" ".join(each).replace(" ", "-") for each in ROWS])
def test_on_nfs(ask: Ask, row: str, kind: str, version: str) -> None:
    answer = ask(row, kind, version)
    assert not answer.failed, f"{answer.failed}\n{answer.log[-8000:]}"
    print(json.dumps(answer.told))
    if (place := os.environ.get("P2V_NFS_FIGURES")) is not None:
        Path(place, f"{row.replace(' ', '-')}-{kind}-{version}.json").write_text(json.dumps(answer.told, indent=1))
