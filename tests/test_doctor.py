"""What the doctor says about hosts of every kind."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from p2v.core import jsonio
from p2v.core.acceleration import Acceleration, Accelerator
from p2v.core.errors import ProgramFailed, ToolMissing
from p2v.core.run import Completed
from p2v.doctor import (
    NEEDED_LIBRARIES,
    Check,
    Status,
    able,
    appliance_folder,
    examine,
    kernel_check,
    render,
    space_check,
    virtio_win_check,
)
from tests.fixtures.virtio_win import DRIVERS, medium, write_folder

TCG = Acceleration(Accelerator.TCG, "no KVM in a test")


class Host:
    """A runner that plays a host that has everything but ``missing`` programs and ``broken`` modules."""

    def __init__(self, *missing: str, python: str = "3.11.2", broken: Sequence[str] = ()) -> None:
        self.missing, self.python, self.broken = missing, python, broken

    def run(self, argv: Sequence[str], **options: Any) -> Completed:
        name = argv[0].rpartition("/")[2]
        if name in self.missing:
            raise ToolMissing(name, name)
        if "--dump-plugin" in argv:
            return Completed(f"name=python\npython_version={self.python}\n", "", 0.0)
        if "-c" in argv:
            if len(argv) > 3:
                return Completed(json.dumps({n: None if n in self.broken else "1" for n in argv[3:]}), "", 0.0)
            if "guestfs" in self.broken:
                raise ProgramFailed(name, 1, "ModuleNotFoundError: guestfs")
            return Completed("1.48.6\n", "", 0.0)
        return Completed(f"{name} version 7", "", 0.0)


def seen(host: Host) -> dict[str, Check]:
    return {check.name: check for check in examine(host, answer=TCG)}


def test_a_host_with_everything_is_able() -> None:
    checks = examine(Host(python=_ours()), answer=TCG)
    assert able([c for c in checks if not c.name.startswith(("space", "kernel", "qemu-system"))])


def _ours() -> str:
    import sys

    return f"{sys.version_info.major}.{sys.version_info.minor}.7"


@pytest.mark.parametrize("program", ["qemu-img", "nbdkit", "supermin", "depmod"])
def test_a_host_without_an_essential_program_is_not_able(program: str) -> None:
    checks = seen(Host(program, python=_ours()))
    assert checks[program].status is Status.MISSING
    assert not able(tuple(checks.values()))
    assert "apt install" in checks[program].install
    assert "dnf install" in checks[program].install


@pytest.mark.parametrize("program", ["swtpm", "virt-xml-validate", "e2fsck", "ssh-keygen", "lvcreate"])
def test_what_is_optional_stops_nothing(program: str) -> None:
    check = seen(Host(program))[program]
    assert (check.status, check.essential) == (Status.MISSING, False)


def test_nbdkit_for_another_python_is_bad() -> None:
    check = seen(Host(python="2.7.18"))["nbdkit"]
    assert check.status is Status.BAD
    assert "2.7" in check.found


def test_without_its_python_module_libguestfs_is_missing() -> None:
    check = seen(Host(broken=["guestfs"]))["libguestfs"]
    assert (check.status, check.essential) == (Status.MISSING, True)


def test_modules_that_cannot_be_imported_are_named() -> None:
    check = seen(Host(broken=["pyvhdi"]))["libyal, needed"]
    assert check.status is Status.MISSING
    assert "pyvhdi" in check.found
    assert "libvhdi-python" in check.install
    assert "pyvhdi" in NEEDED_LIBRARIES


def test_emulation_is_a_warning_and_a_broken_qemu_is_not() -> None:
    assert seen(Host())["accelerator"].status is Status.WARN
    broken = Acceleration(Accelerator.TCG, "it hung", qemu_works=False)
    check = next(c for c in examine(Host(), answer=broken) if c.name == "accelerator")
    assert check.status is Status.BAD


def test_the_appliance_needs_a_kernel_with_its_modules(tmp_path: Path) -> None:
    boot, modules = tmp_path / "boot", tmp_path / "modules"
    boot.mkdir()
    assert kernel_check(boot, modules).status is Status.MISSING
    (boot / "vmlinuz-6.1").touch()
    assert kernel_check(boot, modules).status is Status.MISSING
    (modules / "6.1").mkdir(parents=True)
    assert kernel_check(boot, modules).status is Status.OK


def test_a_kernel_that_only_root_may_read_is_bad(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "vmlinuz-6.1").touch()
    (tmp_path / "6.1").mkdir()
    monkeypatch.setattr("os.access", lambda *_: False)  # root may read everything
    check = kernel_check(tmp_path, tmp_path)
    assert check.status is Status.BAD
    assert "chmod" in check.install


@pytest.mark.parametrize(("free", "status"), [(1 << 40, Status.OK), (5 << 30, Status.WARN), (1 << 20, Status.BAD)])
def test_space_is_judged_in_bytes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, free: int, status: Status) -> None:
    monkeypatch.setattr("p2v.doctor.free_bytes", lambda _: free)
    check = space_check("space", tmp_path)
    assert check.status is status
    assert str(free) in check.found


@pytest.mark.parametrize(("essential", "status"), [(True, Status.BAD), (False, Status.WARN)])
def test_a_folder_that_the_user_may_not_make_is_told(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, essential: bool, status: Status
) -> None:
    """As that of a user without a home, whose conversions would keep nothing for one another."""
    monkeypatch.setattr("os.access", lambda place, mode: place != tmp_path)  # root may write everywhere
    check = space_check("space", tmp_path / "home" / ".cache", essential=essential)
    assert (check.status, check.essential) == (status, essential)
    assert str(tmp_path) in check.found
    assert "XDG_CACHE_HOME" in check.install


def test_the_text_names_every_check_and_the_answer() -> None:
    checks = (
        Check("one", Status.OK, "1.0", "this"),
        Check("two", Status.MISSING, "not installed", "that", "apt install two", essential=True),
    )
    text = render(checks)
    assert all(word in text for word in ("one", "1.0", "two", "apt install two", "cannot convert"))
    assert "can convert" in render(checks[:1])


def test_checks_survive_json() -> None:
    checks = examine(Host(), answer=TCG)
    conv = jsonio.converter()
    assert jsonio.decode(conv, jsonio.encode(conv, checks), tuple[Check, ...]) == checks


def test_this_host_is_examined_for_real(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    checks = {check.name: check for check in examine()}
    assert checks["qemu-img"].status is Status.OK
    assert checks["libyal, needed"].status is Status.OK


@pytest.mark.parametrize(
    ("arch", "program"),
    [("aarch64", "qemu-system-aarch64"), ("ppc64le", "qemu-system-ppc64"), ("s390x", "qemu-system-s390x")],
)
def test_emulators_of_other_architectures_are_named_and_optional(arch: str, program: str) -> None:
    absent = seen(Host(program))[f"qemu for {arch}"]
    assert (absent.status, absent.essential) == (Status.MISSING, False)
    assert "qemu-system-" in absent.install
    assert program in seen(Host())[f"qemu for {arch}"].found


def test_an_emulator_that_has_nothing_to_start_its_guests_with_is_no_help(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("p2v.doctor.installed_firmware", lambda **_: None)
    check = seen(Host())["qemu for aarch64"]
    assert check.status is Status.MISSING
    assert "qemu-efi-aarch64" in check.install


def test_a_medium_of_windows_drivers_is_told_with_what_it_is_good_for(tmp_path: Path) -> None:
    check = virtio_win_check([str(write_folder(medium(DRIVERS[:3], releases=("w7", "2k19")).files, tmp_path / "medium"))])
    assert check.status is Status.OK
    # Server 2008 R2 is the kernel of Windows 7
    assert "x86: w7; amd64: w7, 2k8R2, 2k19" in check.found


@pytest.mark.parametrize(
    "files, status, word",
    [
        ({}, Status.MISSING, "not found"),
        ({"/readme": b""}, Status.BAD, "no driver packages"),
        ({"/virtio-win.iso": b"half of it"}, Status.BAD, "virtio-win.iso"),
        (medium(DRIVERS[:1], releases=("w7",)).files, Status.BAD, "no Windows has its drivers"),
    ],
)
def test_a_medium_that_is_no_use_is_told(files: dict[str, bytes], status: Status, word: str, tmp_path: Path) -> None:
    check = virtio_win_check([str(write_folder(files, tmp_path))])
    assert (check.status, check.essential) == (status, False)
    assert word in check.found
    assert str(tmp_path) in check.install


@pytest.mark.parametrize(
    ("environment", "folder"),
    [
        ({}, "/var/tmp"),
        ({"TMPDIR": ""}, "/var/tmp"),
        ({"TMPDIR": "/a"}, "/a"),
        ({"TMPDIR": "/a", "LIBGUESTFS_CACHEDIR": "/b"}, "/b"),
    ],
)
def test_space_for_the_appliance_is_looked_for_where_libguestfs_keeps_it(environment: dict[str, str], folder: str) -> None:
    assert appliance_folder(environment) == Path(folder)
