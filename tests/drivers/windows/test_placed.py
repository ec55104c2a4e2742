"""A guest that was converted before: what is there is not put there once more, and another version takes its place."""

from __future__ import annotations

import hashlib
from dataclasses import replace

from drivers.changes import CarryFile, Change, DeleteFile, WriteFile
from drivers.windows.facts import WindowsFacts
from drivers.windows.names import Names
from drivers.windows.placed import own_driver, read_placed, still_to_do
from tests.drivers.memory_tree import InMemoryTree, Link, Node
from tests.drivers.windows.guest_facts import facts

STEPS = "/Windows/p2v/firstboot-1/steps.txt"
DRIVER = "/Windows/System32/drivers/viostor.sys"


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def carry(path: str, data: bytes) -> CarryFile:
    return CarryFile("/host/file", len(data), digest(data), path, 0o644, "t")


def with_files(files: dict[str, Node]) -> WindowsFacts:
    return replace(facts({}), placed=read_placed(Names(InMemoryTree(files)), "/Windows"))


def test_files_of_conversions_are_read_and_nothing_else() -> None:
    files: dict[str, Node] = {
        STEPS: b"steps", DRIVER: b"driver", "/Windows/drivers/virtio/netkvm/netkvm.sys": b"card",
        "/Windows/System32/drivers/disk.sys": b"windows", "/Windows/p2v/loose.txt": b"loose", "/Windows/p2v/a/link": Link("/etc"),
    }  # fmt: skip
    found = read_placed(Names(InMemoryTree(files)), "/Windows")
    assert {file.path: (file.size, file.sha256) for file in found} == {
        STEPS: (5, digest(b"steps")),
        DRIVER: (6, digest(b"driver")),
        "/Windows/drivers/virtio/netkvm/netkvm.sys": (4, digest(b"card")),
    }


def test_of_a_hostile_guests_many_or_large_files_only_some_are_read() -> None:
    many: dict[str, Node] = {f"/Windows/p2v/a/{n:04d}": b"x" for n in range(1200)}
    assert len(read_placed(Names(InMemoryTree(many)), "/Windows")) == 500
    large: dict[str, Node] = {f"/Windows/p2v/a/{n}": bytes(50 << 20) for n in range(3)}
    assert [file.size for file in read_placed(Names(InMemoryTree(large)), "/Windows")] == [50 << 20, 50 << 20]


def test_what_is_there_already_is_left_out_in_any_spelling() -> None:
    windows = with_files({STEPS: b"steps", DRIVER: b"driver"})
    changes: list[Change] = [WriteFile(STEPS.upper(), "steps", 0o644, "t"), carry(DRIVER.lower(), b"driver")]
    assert list(still_to_do(changes, windows)) == []


def test_another_version_takes_the_place_of_what_is_there() -> None:
    windows = with_files({STEPS: b"steps", DRIVER: b"driver"})
    written, carried = WriteFile(STEPS, "other", 0o644, "t"), carry(DRIVER, b"newer")
    made = list(still_to_do([written, carried], windows))
    assert [type(change) for change in made] == [DeleteFile, WriteFile, DeleteFile, CarryFile]
    gone = made[0]
    assert isinstance(gone, DeleteFile)
    assert (gone.path, gone.sha256) == (STEPS, digest(b"steps"))


def test_changes_of_other_files_stay_as_they_are() -> None:
    windows = with_files({STEPS: b"steps"})
    changes: list[Change] = [WriteFile("/Windows/new.txt", "steps", 0o644, "t"), DeleteFile(STEPS, digest(b"steps"), "t")]
    assert list(still_to_do(changes, windows)) == changes


def test_a_driver_of_the_guests_own_is_told_apart_from_the_mediums() -> None:
    other = "/Windows/Drivers/VirtIO/viostor/viostor.sys"
    windows = with_files({DRIVER: b"driver", other: b"driver"})
    assert own_driver(windows, carry(DRIVER.upper(), b"newer")) == "viostor.sys"
    assert own_driver(windows, carry(DRIVER, b"driver")) == ""
    assert own_driver(windows, carry(other, b"newer")) == ""
    assert own_driver(windows, carry("/Windows/System32/drivers/vioscsi.sys", b"newer")) == ""
