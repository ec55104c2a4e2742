"""A guest whose SELinux policy is enforced: its new files are labelled as the policy says, and nothing is denied for them."""

from __future__ import annotations

import posixpath
import re
from pathlib import Path

import pytest

from drivers.changes import DeleteFile, DeleteSymlink, MakeSymlink
from drivers.linux import firstboot
from tests.fixtures.guests import named
from tests.pipeline.afterwards import converted, give_task, run_to_its_end
from tests.pipeline.test_families import noted, seen_wrong

GUEST = named("selinux")
LABELS = ("system_u:object_r:etc_t:s0", "system_u:object_r:systemd_unit_t:s0")


@pytest.mark.matrix
@pytest.mark.boots
@pytest.mark.timeout(2400)
def test_labels_are_the_policys_own_and_nothing_is_denied_or_relabelled(tmp_path: Path) -> None:
    result = converted(GUEST, tmp_path)
    changes = result.record.document.plan.changes
    paths = [c.path for c in changes if not isinstance(c, DeleteFile | DeleteSymlink)]
    assert any(isinstance(change, MakeSymlink) for change in changes)
    every = " ".join(paths)
    script = (
        f"getenforce\nls -dZ {every}\necho verifying\nmatchpathcon -V {every} || true\n"
        "echo denials\ndmesg | grep 'avc:.*denied' || true\nls -a / | grep autorelabel || true\necho end of denials"
    )
    give_task(result, script, labels=LABELS)
    said = run_to_its_end(result)
    assert "task ended with 0" in said, said[-3000:]
    assert said.startswith("Enforcing\n")

    verified = said.partition("verifying\n")[2].partition("denials\n")[0]
    problems = [f"{path} is not labelled as by the policy" for path in paths if f"{path} verified." not in verified]
    told = said.partition("\ndenials\n")[2].partition("end of denials")[0]
    ours = {posixpath.basename(path) for path in (*paths, *firstboot.TEXTS)}
    denied = [line for line in told.splitlines() if "avc:" in line and _is_of(line, ours)]
    problems += [f"denied: {line}" for line in denied]
    problems += ["it asks to be relabelled"] if "autorelabel" in told else []
    record = result.checked(result.planned())
    problems += seen_wrong(GUEST, record, result.folder)
    noted(GUEST, record, problems, "in use, enforcing: labels are the policy's (matchpathcon), nothing of ours denied")
    assert problems == [], said[-5000:]


def _is_of(line: str, names: set[str]) -> bool:
    """Whether a denial is about a file of ours, or something that we start."""
    said = re.search(r'name="([^"]*)"', line)
    return "p2v" in line or (said is not None and said[1] in names)
