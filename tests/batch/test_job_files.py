"""The names that a conversion gives on its way are told apart from everybody else's."""

from __future__ import annotations

from pathlib import Path

import pytest

from p2v.batch.job_files import FileKind, job_files, lock_path

OURS = {
    ".web.p2v-lock": FileKind.LOCK,
    ".web.p2v-fence": FileKind.FENCE,
    ".web.p2v-trial": FileKind.TRIAL,
    "web.qcow2.partial": FileKind.COPY,
    "web.qcow2.partial.journal": FileKind.JOURNAL,
    "web-disk2.img.partial": FileKind.COPY,
    "web-disk12.device.partial.journal": FileKind.JOURNAL,
    "web.json.partial": FileKind.RECORD,
    "web.boot.log.partial": FileKind.TEXT,
    "web_VARS.fd.partial": FileKind.TEXT,
    "web-cdrom1.iso.partial": FileKind.TEXT,
    "web.kubevirt.yaml.partial": FileKind.TEXT,
}
OTHERS = (
    "web.qcow2",
    "web.json",
    "web.partial",
    "web.txt.partial",
    "web.qcow2.partial.bak",
    "web.json.partial.journal",
    "web-disk0.qcow2.partial",
    "web-old.qcow2.partial",
    "webs.qcow2.partial",
    "xweb.qcow2.partial",
    ".web.qcow2.partial",
    "web.p2v-lock",
    "web.p2v-trial",
    "..p2v-lock",
    ".partial.work",
    "-disk1.qcow2.partial",
)


def found(folder: Path, *machines: str) -> dict[str, tuple[str, FileKind]]:
    return {each.path.name: (each.machine, each.kind) for each in job_files(folder, machines)}


def test_what_a_conversion_makes_on_its_way_is_found_and_nothing_else_is(tmp_path: Path) -> None:
    for name in (*OURS, *OTHERS):
        (tmp_path / name).write_text("x")
    (tmp_path / "web.partial.work").mkdir()
    expected = {name: ("web", kind) for name, kind in OURS.items()} | {"web.partial.work": ("web", FileKind.WORK)}
    assert found(tmp_path, "web", "") == expected
    assert lock_path(tmp_path, "web").name == ".web.p2v-lock"


def test_a_machine_that_is_called_like_a_disk_of_another_has_its_own_files(tmp_path: Path) -> None:
    for name in ("web-disk2.qcow2.partial", "web-disk1.qcow2.partial", "web-disk2-disk1.qcow2.partial"):
        (tmp_path / name).touch()
    assert found(tmp_path, "web", "web-disk2") == {
        "web-disk1.qcow2.partial": ("web", FileKind.COPY),
        "web-disk2.qcow2.partial": ("web-disk2", FileKind.COPY),
        "web-disk2-disk1.qcow2.partial": ("web-disk2", FileKind.COPY),
    }


def test_links_and_folders_of_such_names_are_somebody_elses(tmp_path: Path) -> None:
    (tmp_path / "aim").mkdir()
    (tmp_path / "web.qcow2.partial").symlink_to(tmp_path / "aim")
    (tmp_path / "web.json.partial").mkdir()
    (tmp_path / "web.partial.work").symlink_to(tmp_path / "aim")
    assert found(tmp_path, "web") == {}


def test_a_work_folder_counts_what_is_in_it(tmp_path: Path) -> None:
    work = tmp_path / "web.partial.work" / "deep"
    work.mkdir(parents=True)
    (work / "overlay").write_bytes(b"x" * (1 << 20))
    (each,) = job_files(tmp_path, ["web"])
    assert each.allocated >= 1 << 20


def test_a_folder_that_is_not_there_is_an_error_of_the_host(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        list(job_files(tmp_path / "none", ["web"]))
