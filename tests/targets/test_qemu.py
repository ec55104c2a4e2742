"""The start script and the options, run by real shells and a real QEMU."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import os
import socket
from pathlib import Path

import pytest

from p2v.core.acceleration import Acceleration, Accelerator
from p2v.core.errors import ProgramFailed
from p2v.core.firmware import firmware_pairs, installed_firmware
from p2v.core.run import SystemRunner, background, find_program
from p2v.machine import Connection, DiskBus, Firmware
from p2v.targets.hardware import TargetHardware
from p2v.targets.qemu import Wiring, hardware_options, qemu_arguments, qemu_script
from tests.targets.samples import HOSTILE, hardware

TCG = Acceleration(Accelerator.TCG, "in a test")
QEMU = pytest.mark.skipif(find_program("qemu-system-x86_64") is None, reason="qemu-system-x86_64 is not installed")
SHELL = SystemRunner()


def written(folder: Path, made: TargetHardware, acceleration: Acceleration | None = TCG) -> Path:
    script = folder / "start"
    script.write_text(qemu_script(made, acceleration), "utf-8")
    script.chmod(0o755)
    for disk in made.disks:
        SHELL.run(["qemu-img", "create", "-q", "-f", "qcow2", f"{folder}/{disk.path}", "1M"], timeout=60)
    return script


def options_seen(folder: Path, script: Path, **env: str) -> list[str]:
    """Run the script with a QEMU that only writes down its arguments."""
    fake = folder / "fake-qemu"
    fake.write_text('#!/bin/sh\nprintf "%s\\n" "$@" > arguments\n', "utf-8")
    fake.chmod(0o755)
    SHELL.run([str(script)], timeout=30, env={"P2V_QEMU": str(fake), **env})
    return (folder / "arguments").read_text("utf-8").splitlines()


@pytest.mark.parametrize("firmware", Firmware)
@pytest.mark.parametrize("name", ["web1", HOSTILE])
def test_the_script_is_sound_shell(tmp_path: Path, name: str, firmware: Firmware) -> None:
    script = tmp_path / "start"
    script.write_text(qemu_script(hardware(name, firmware=firmware)), "utf-8")
    SHELL.run(["sh", "-n", str(script)], timeout=30)
    if find_program("shellcheck"):
        SHELL.run(["shellcheck", str(script)], timeout=60)


def test_a_hostile_name_reaches_qemu_as_one_argument_and_runs_nothing(tmp_path: Path) -> None:
    script = written(tmp_path, hardware(HOSTILE))
    seen = options_seen(tmp_path, script)
    assert f"guest={HOSTILE.replace(',', ',,')}" in seen
    assert not (tmp_path / "pwned").exists()


def test_the_script_works_from_any_folder_on_the_disks_beside_it(tmp_path: Path) -> None:
    script = written(tmp_path, hardware())
    seen = options_seen(tmp_path, script)
    blockdev = seen[seen.index("-blockdev") + 1]
    assert "file.filename=./web1-0.qcow2" in blockdev
    assert (tmp_path / "web1-0.qcow2").exists()


@pytest.mark.parametrize(
    ("acceleration", "env", "expected"),
    [
        (TCG, {}, "tcg"),
        (None, {"P2V_ACCEL": "tcg"}, "tcg"),
        (None, {}, "kvm" if os.access("/dev/kvm", os.R_OK | os.W_OK) else "tcg"),
    ],
)
def test_the_accelerator_is_the_doctors_unless_the_user_says_otherwise(
    tmp_path: Path, acceleration: Acceleration | None, env: dict[str, str], expected: str
) -> None:
    seen = options_seen(tmp_path, written(tmp_path, hardware(), acceleration), **env)
    assert seen[seen.index("-accel") + 1] == expected


def test_an_unknown_accelerator_is_refused(tmp_path: Path) -> None:
    script = written(tmp_path, hardware())
    ended = SHELL.run([str(script)], timeout=30, env={"P2V_ACCEL": "magic"}, accept=(64,))
    assert "magic" in ended.stderr


def _answers(connection: socket.socket) -> bool:
    """Whether the machine is there: the greeting comes before it is made, an answer does not."""
    with connection.makefile("rwb") as monitor:
        greeting = monitor.readline()
        monitor.write(b'{"execute": "qmp_capabilities"}\n')
        monitor.flush()
        return b"QMP" in greeting and b'"return"' in monitor.readline()


def runs(arguments: list[str], folder: Path) -> bool:
    """Whether QEMU takes the command: it answers on its monitor socket, and is ended."""
    monitor = folder / "monitor"
    options = ["-S", "-qmp", f"unix:{monitor},server=on,wait=off"]
    env = {"P2V_DISPLAY": "none"}
    with background([*arguments, *options], stderr_file=folder / "stderr", env=env) as qemu:
        for _ in range(6000):
            if qemu.wait(0.05) is not None:
                pytest.fail(qemu.stderr_tail())
            # the socket is there an instant before anybody listens on it
            with socket.socket(socket.AF_UNIX) as connection, contextlib.suppress(FileNotFoundError, ConnectionRefusedError):
                connection.settimeout(300)
                connection.connect(str(monitor))
                return _answers(connection)
    return False


@QEMU
@pytest.mark.parametrize("name", ["web1", HOSTILE, "nbd:unix"])
def test_the_script_starts_the_machine(tmp_path: Path, name: str) -> None:
    assert runs([str(written(tmp_path, hardware(name)))], tmp_path)


@QEMU
@pytest.mark.skipif(
    len({p.variables.stat().st_size for p in firmware_pairs() if p.code.exists() and p.variables.exists()}) < 2,
    reason="firmware of one size alone is installed",
)
def test_the_script_takes_the_firmware_that_its_variables_fit(tmp_path: Path) -> None:
    pairs = [p for p in firmware_pairs() if p.code.exists() and p.variables.exists()]
    script = written(tmp_path, hardware(firmware=Firmware.UEFI))
    for pair in pairs:
        (tmp_path / "web1_VARS.fd").write_bytes(b"V" * pair.variables.stat().st_size)
        seen = options_seen(tmp_path, script)
        assert f"if=pflash,unit=0,format=raw,readonly=on,file={pair.code}" in seen
        # what is there is never replaced by a template
        assert (tmp_path / "web1_VARS.fd").read_bytes()[:4] == b"VVVV"
    (tmp_path / "web1_VARS.fd").write_bytes(b"V" * 1000)
    with pytest.raises(ProgramFailed) as failed:
        options_seen(tmp_path, script)
    assert failed.value.exit_status == 69


@pytest.mark.skipif(installed_firmware() is None, reason="no UEFI firmware is installed")
def test_the_script_starts_a_uefi_machine_and_keeps_its_variables(tmp_path: Path) -> None:
    assert runs([str(written(tmp_path, hardware(firmware=Firmware.UEFI)))], tmp_path)
    assert (tmp_path / "web1_VARS.fd").stat().st_size > 0


@QEMU
@pytest.mark.parametrize(("bus", "disks"), list(itertools.product(DiskBus, [1, 4])))
def test_qemu_takes_every_bus(tmp_path: Path, bus: DiskBus, disks: int) -> None:
    made = hardware(bus=bus, disks=disks, machine="pc" if bus is DiskBus.IDE else "q35")
    written(tmp_path, made)
    wiring = Wiring(netdev="user,restrict=on", rest=("-display", "none"))
    assert runs(qemu_arguments(made, TCG, wiring, tmp_path), tmp_path)


def test_a_card_hangs_on_its_bridge_unless_all_are_to_be_kept_apart() -> None:
    made = hardware()
    nics = (dataclasses.replace(made.nics[0], connection=Connection.BRIDGE, network="br0"), *made.nics[1:])
    bridged = dataclasses.replace(made, nics=nics)
    assert "-netdev bridge,br=br0,id=net0" in qemu_script(bridged)
    assert "-netdev user,id=net1" in qemu_script(bridged)
    apart = [word for option in hardware_options(bridged, Wiring(netdev="user,restrict=on")) for word in option]
    assert [word for word in apart if "id=net" in word] == ["user,restrict=on,id=net0", "user,restrict=on,id=net1"]


@QEMU
def test_seven_sata_disks_need_a_second_controller(tmp_path: Path) -> None:
    made = hardware(bus=DiskBus.SATA, disks=7)
    written(tmp_path, made)
    assert runs(qemu_arguments(made, TCG, Wiring(rest=("-display", "none")), tmp_path), tmp_path)
