"""Which appliance is used: the quick one where it is whole and ours, the usual one with a word of why in every other case."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from drivers.fixed_appliance import choosing
from drivers.fixed_appliance.choosing import Quick, quick_appliance
from drivers.fixed_appliance.parts import Parts, fingerprint
from drivers.fixed_appliance.store import Busy, Store
from p2v.core.acceleration import Accelerator
from p2v.core.errors import ProgramFailed
from p2v.core.events import Event, Warned
from p2v.core.run import Runner
from tests.drivers.fixed_appliance.made_parts import ROOT_BYTES, Supermin, elf, kernel, parts, unpacked

TCG, KVM = Accelerator.TCG, Accelerator.KVM


@pytest.fixture(autouse=True)
def on_a_known_host(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(choosing.VARIABLE, raising=False)
    monkeypatch.setattr(choosing, "_ARCHITECTURE", os.uname().machine)
    monkeypatch.setattr("drivers.fixed_appliance.building.NEEDED_BYTES", 1)


@pytest.fixture
def host(tmp_path: Path) -> Parts:
    return parts(tmp_path / "host")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    (tmp_path / "cache").mkdir(mode=0o700)  # whatever the umask lets others do
    return Store(tmp_path / "cache" / "appliances")


def chosen(
    host: Parts | None, store: Store, runner: Runner, accelerator: Accelerator = TCG
) -> tuple[Quick | None, list[str]]:
    events: list[Event] = []
    with quick_appliance(host, accelerator, runner, events.append, store) as quick:
        return quick, [event.message for event in events if isinstance(event, Warned)]


def built(host: Parts, store: Store) -> Quick:
    quick, warnings = chosen(host, store, Supermin())
    assert quick is not None
    assert warnings == []
    return quick


def test_it_is_built_once_and_found_afterwards(host: Parts, store: Store) -> None:
    supermin = Supermin()
    first, second = chosen(host, store, supermin)[0], chosen(host, store, supermin)[0]
    assert first == second == Quick(store, fingerprint(host), TCG, proved=False)
    assert supermin.runs == 1
    folder = store.path(fingerprint(host))
    assert (folder / "kernel").read_bytes() == elf()
    assert (folder / "kernel").stat().st_blocks * 512 < len(elf()), "zeroes take no room"
    assert b"ata_piix" not in (folder / "initrd").read_bytes()
    assert b"--subsystem-match=block" in unpacked((folder / "root").read_bytes()[ROOT_BYTES:])["init"][0]
    assert (folder / "README.fixed").is_file()
    assert sorted(path.name for path in store.folder.iterdir()) == [fingerprint(host), "lock"]


def test_the_folder_is_for_this_user_alone(host: Parts, store: Store) -> None:
    built(host, store)
    assert store.folder.stat().st_mode & 0o777 == 0o700


def test_that_it_started_is_remembered_for_that_accelerator(host: Parts, store: Store) -> None:
    built(host, store).note_works()
    assert [chosen(host, store, Supermin(), how)[0] for how in (TCG, KVM)] == [
        Quick(store, fingerprint(host), TCG, proved=True),
        Quick(store, fingerprint(host), KVM, proved=False),
    ]


def test_other_packages_are_another_appliance(host: Parts, store: Store) -> None:
    before = built(host, store)
    host.databases[0].write_text("Package: bash\nVersion: 6\n")
    assert built(host, store).folder != before.folder


DAMAGES: dict[str, Callable[[Path], object]] = {
    "a root that was cut": lambda folder: os.truncate(folder / "root", 3),
    "a kernel that is gone": lambda folder: (folder / "kernel").unlink(),
    "an initrd that was written to": lambda folder: (folder / "initrd").write_bytes((folder / "initrd").read_bytes()),
    "a root that is a link": lambda folder: os.symlink((folder / "root").rename(folder / "r"), folder / "root"),
    "no list": lambda folder: (folder / "contents.json").unlink(),
    "a list of nonsense": lambda folder: (folder / "contents.json").write_bytes(b"[[[\xff"),
    "no mark": lambda folder: (folder / "README.fixed").unlink(),
    "a link in its place": lambda folder: os.symlink(
        "nowhere", folder.rename(folder.with_name("r")).with_name(folder.name)
    ),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_one_is_built_anew(damage: Callable[[Path], object], host: Parts, store: Store) -> None:
    quick = built(host, store)
    damage(quick.folder)
    supermin = Supermin()
    assert chosen(host, store, supermin) == (quick, [])
    assert supermin.runs == 1
    assert store.is_whole(quick.key)


def test_a_root_that_is_no_file_system_is_not_whole_whatever_was_noted(host: Parts, store: Store) -> None:
    def zero(folder: Path) -> None:
        (folder / "root").write_bytes(bytes(ROOT_BYTES))

    assert chosen(host, store, Supermin(during=zero))[0] is None
    assert not store.is_whole(fingerprint(host))


def test_what_belongs_to_another_user_is_not_used(host: Parts, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    quick = built(host, store)
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    assert not store.is_whole(quick.key)


@pytest.mark.parametrize("mode", [0o770, 0o707, 0o1777])
def test_a_folder_that_others_can_write_to_is_refused(mode: int, host: Parts, store: Store) -> None:
    built(host, store)
    store.folder.chmod(mode)
    quick, warnings = chosen(host, store, Supermin())
    assert quick is None
    assert len(warnings) == 1
    assert str(store.folder) in warnings[0]


def test_a_folder_above_that_others_can_write_to_is_refused_unless_it_is_sticky(host: Parts, store: Store) -> None:
    built(host, store)
    store.folder.parent.chmod(0o777)
    assert chosen(host, store, Supermin())[0] is None
    store.folder.parent.chmod(0o1777)
    assert chosen(host, store, Supermin())[0] is not None


def test_a_link_in_a_folder_that_others_can_write_to_is_refused(host: Parts, store: Store, tmp_path: Path) -> None:
    built(host, store)
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)
    (tmp_path / "open/cache").symlink_to(store.folder.parent)
    assert chosen(host, Store(tmp_path / "open/cache/appliances"), Supermin())[0] is None


def test_a_kernel_that_is_unfit_is_told_of_once_and_not_tried_again(host: Parts, store: Store) -> None:
    supermin = Supermin(kernel(elf(note=1)))
    first, second = chosen(host, store, supermin), chosen(host, store, supermin)
    assert first[0] is second[0] is None
    assert "CONFIG_PVH" in first[1][0]
    assert second[1] == []
    assert supermin.runs == 1
    assert "CONFIG_PVH" in str(store.reason_against(fingerprint(host), TCG))
    assert sorted(path.name for path in store.folder.iterdir()) == [f"{fingerprint(host)}.unfit", "lock"]


def test_a_build_that_fails_is_told_leaves_nothing_and_is_tried_again(host: Parts, store: Store) -> None:
    def fails(folder: Path) -> None:
        raise ProgramFailed("supermin", 1, "no such package")

    quick, warnings = chosen(host, store, Supermin(during=fails))
    assert quick is None
    assert "supermin" in warnings[0]
    assert [path.name for path in store.folder.iterdir()] == ["lock"]
    built(host, store)


def test_a_build_that_is_interrupted_leaves_nothing(host: Parts, store: Store) -> None:
    def interrupt(folder: Path) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        chosen(host, store, Supermin(during=interrupt))
    assert [path.name for path in store.folder.iterdir()] == ["lock"]
    built(host, store)


def test_without_room_nothing_is_built(host: Parts, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("drivers.fixed_appliance.building.NEEDED_BYTES", 1 << 60)
    supermin = Supermin()
    quick, warnings = chosen(host, store, supermin)
    assert (quick, supermin.runs, len(warnings)) == (None, 0, 1)


def test_a_cache_that_cannot_be_made_stops_nothing(host: Parts, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    quick, warnings = chosen(host, Store(tmp_path / "file/appliances"), Supermin())
    assert (quick, len(warnings)) == (None, 1)


def test_one_that_did_not_start_is_not_used_under_that_accelerator_again(host: Parts, store: Store) -> None:
    built(host, store).note_failed("QEMU ended")
    assert chosen(host, store, Supermin()) == (None, [])
    assert "QEMU ended" in str(store.reason_against(fingerprint(host), TCG))
    assert chosen(host, store, Supermin(), KVM)[0] is not None


def test_one_that_had_started_before_is_not_to_blame(host: Parts, store: Store) -> None:
    built(host, store).note_works()
    quick = built(host, store)
    quick.note_failed("no memory")
    assert built(host, store) == quick


def test_the_environment_a_built_appliance_and_another_processor_mean_the_usual_one(
    host: Parts, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert chosen(None, store, Supermin()) == (None, [])
    monkeypatch.setattr(choosing, "_ARCHITECTURE", "another")
    assert chosen(host, store, Supermin()) == (None, [])
    monkeypatch.setattr(choosing, "_ARCHITECTURE", os.uname().machine)
    monkeypatch.setenv(choosing.VARIABLE, choosing.PLAIN)
    assert chosen(host, store, Supermin()) == (None, [])
    assert not store.folder.exists()


# --- others at the same time ------------------------------------------------------------------------------------------


def test_of_two_that_want_it_one_builds_and_both_use_it(host: Parts, store: Store) -> None:
    inside, found = threading.Event(), []

    def wait_for_the_other(folder: Path) -> None:
        inside.set()
        with pytest.raises(Busy), store.locked(0.3, alone=False):
            pass  # the other one waits as long as this goes on

    supermin = Supermin(during=wait_for_the_other)
    other = threading.Thread(target=lambda: found.append(chosen(host, store, supermin)))
    other.start()
    assert inside.wait(60)
    mine = chosen(host, store, supermin)
    other.join(60)
    assert found == [mine]
    assert mine[0] is not None
    assert supermin.runs == 1


def test_of_two_that_found_none_the_second_does_not_build_again(
    host: Parts, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked, found, supermin, is_whole = threading.Semaphore(0), [], Supermin(), Store.is_whole

    def look(self: Store, key: str) -> bool:
        try:
            return is_whole(self, key)
        finally:
            looked.release()

    monkeypatch.setattr(Store, "is_whole", look)
    both = [threading.Thread(target=lambda: found.append(chosen(host, store, supermin)[0])) for _ in range(2)]
    store.make()
    with store.locked(60, alone=False):  # both may look, none may build
        for one in both:
            one.start()
        assert looked.acquire(timeout=60)
        assert looked.acquire(timeout=60)
    for one in both:
        one.join(60)
    assert found == [Quick(store, fingerprint(host), TCG, proved=False)] * 2
    assert supermin.runs == 1


def test_who_waits_too_long_uses_the_usual_one(host: Parts, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choosing, "_WAIT_SECONDS", 0.2)
    store.make()
    with store.locked(1, alone=True):
        quick, warnings = chosen(host, store, Supermin())
    assert (quick, len(warnings)) == (None, 1)


def test_one_in_use_is_not_removed(host: Parts, store: Store) -> None:
    with quick_appliance(host, TCG, Supermin(), lambda event: None, store) as quick:
        assert quick is not None
        with pytest.raises(Busy):
            store.remove_all(0.2)
        assert store.is_whole(quick.key)
    assert store.remove_all(5) == 1
    assert [path.name for path in store.folder.iterdir()] == ["lock"]


def test_a_child_that_keeps_the_lock_open_keeps_nobody_out(host: Parts, store: Store) -> None:
    copies = []
    with quick_appliance(host, TCG, Supermin(), lambda event: None, store):
        for entry in Path("/proc/self/fd").iterdir():
            if entry.is_symlink() and os.path.realpath(entry) == str(store.folder / "lock"):
                copies.append(os.dup(int(entry.name)))
    try:
        assert copies
        assert store.remove_all(5) == 1
    finally:
        for descriptor in copies:
            os.close(descriptor)


def test_old_ones_and_what_a_killed_build_left_are_removed(host: Parts, store: Store) -> None:
    used = []
    for version in (5, 6, 7):
        host.databases[0].write_text(f"Version: {version}\n")
        used.append(built(host, store).folder)
        os.utime(used[-1], (version, version))
    (store.folder / ".building-left").mkdir()
    (store.folder / ".building-left/README.fixed").touch()
    host.databases[0].write_text("Version: 8\n")
    last = built(host, store).folder
    assert store.kept() == (last, used[-1])
    assert not (store.folder / ".building-left").exists()


def test_a_build_that_never_ended_is_no_appliance(host: Parts, store: Store) -> None:
    def look(folder: Path) -> None:
        assert store.kept() == ()
        assert not store.is_whole(fingerprint(host))

    assert chosen(host, store, Supermin(during=look))[0] is not None


def test_nothing_to_remove_is_no_mistake(store: Store) -> None:
    assert store.remove_all(1) == 0
