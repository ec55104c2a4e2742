"""A real libvirtd is asked and told: pools, volumes, domains; nothing that exists is replaced, what fails is taken back."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from p2v.core.acceleration import Acceleration, Accelerator
from p2v.core.errors import P2vError, ProgramFailed, TargetExists, Usage
from p2v.core.firmware import installed_firmware
from p2v.core.run import SystemRunner, find_program
from p2v.core.workspace import Outputs, socket_folder
from p2v.delivery import check_delivery, deliver_machine
from p2v.machine import DriveKind, Firmware, Smbios, UefiVariable
from p2v.nvram.edk2 import read_store, write_store
from p2v.targets.hardware import TargetDisk, TargetHardware, TargetMedium
from p2v.targets.libvirt import domain_xml
from p2v.targets.libvirt_host import DeliveredFile, Delivery, LibvirtHost, Pool, deliver
from p2v.targets.storage import Storage
from tests.targets.libvirtd import ONE_WORKER, libvirtd, why_not
from tests.targets.samples import hardware
from tests.targets.windows_machines import GENERATIONS, hardware_of

pytestmark = [pytest.mark.skipif(bool(why_not()), reason=why_not()), ONE_WORKER]

RUNNER = SystemRunner()
TCG = Acceleration(Accelerator.TCG, "in a test")
MIB = 1 << 20
# needs no firewall and no bridge until a machine starts
NETWORK = '<network><name>{name}</name><forward mode="bridge"/><bridge name="nobridge0"/></network>'


@pytest.fixture(scope="module")
def host() -> Iterator[LibvirtHost]:
    with socket_folder() as folder, libvirtd(folder) as uri:
        yield LibvirtHost(uri, RUNNER)


def virsh(host: LibvirtHost, *words: str) -> str:
    return RUNNER.run(["virsh", "--quiet", "--connect", host.uri, *words], timeout=60).stdout


@pytest.fixture(scope="module")
def pool(host: LibvirtHost, tmp_path_factory: pytest.TempPathFactory) -> Pool:
    folder = tmp_path_factory.mktemp("pool")
    virsh(host, "pool-define-as", "tank", "dir", "--target", str(folder))
    virsh(host, "pool-start", "tank")
    return Pool("tank", "dir", is_active=True)


def network(host: LibvirtHost, folder: Path, name: str, *, started: bool) -> None:
    file = folder / f"{name}.xml"
    file.write_text(NETWORK.format(name=name))
    virsh(host, "net-define", str(file))
    if started:
        virsh(host, "net-start", name)


def machine(name: str, number: int) -> TargetHardware:
    made = hardware(name)
    return dataclasses.replace(made, uuid=f"2b4ad1e5-0c74-5a77-8a44-{number:012d}", nics=())


def disk(folder: Path, made: TargetHardware, index: int = 0) -> DeliveredFile:
    path = folder / made.disks[index].path
    RUNNER.run(["qemu-img", "create", "-q", "-f", "qcow2", str(path), "64M"], timeout=60)
    RUNNER.run(["qemu-io", "-f", "qcow2", "-c", "write -P 7 1M 3M", str(path)], timeout=60)
    return DeliveredFile(path, "qcow2", 64 * MIB)


def told(host: LibvirtHost, made: TargetHardware, folder: Path, pool: Pool | None = None, *, start: bool = False) -> None:
    own = folder / made.variables if made.variables is not None else None
    deliver(
        Delivery(host, start=start),
        [dataclasses.replace(disk(folder, made), pool=pool)],
        made.name,
        lambda own: domain_xml(made, folder, TCG, pools=[pool.name if pool else None], variables=own),
        DeliveredFile(own, "raw", own.stat().st_size, pool) if own is not None else None,
    )


def test_disks_become_volumes_with_the_same_contents_and_the_machine_starts(
    host: LibvirtHost, pool: Pool, tmp_path: Path
) -> None:
    told_of = Smbios("Dell, Inc.", "PowerEdge <R720>", "2", "7J0P6Z1", "SKU", "F", "B1", "B-9", "C1", "IT 4711")
    made = dataclasses.replace(machine("web1", 1), smbios=told_of)
    told(host, made, tmp_path, pool, start=True)
    assert virsh(host, "domstate", "web1").strip() == "running"
    virsh(host, "destroy", "web1")
    volume = Path(virsh(host, "vol-path", "--pool", "tank", "web1-0.qcow2").strip())
    RUNNER.run(["qemu-img", "compare", "-f", "qcow2", "-F", "qcow2", str(volume), str(tmp_path / "web1-0.qcow2")], timeout=60)


@pytest.mark.skipif(installed_firmware() is None, reason="no UEFI firmware is installed")
@pytest.mark.parametrize("in_pool", [True, False])
def test_a_machine_starts_with_its_own_uefi_variables(host: LibvirtHost, pool: Pool, tmp_path: Path, in_pool: bool) -> None:
    name = f"uefi{in_pool:d}"
    files = installed_firmware()
    assert files is not None
    (tmp_path / f"{name}_VARS.fd").write_bytes(
        write_store(files.variables.read_bytes(), (UefiVariable("Mark", "8be4df61-93ca-11d2-aa0d-00e098032b8c", 7, "70327631"),))
    )
    made = dataclasses.replace(machine(name, 20 + in_pool), firmware=Firmware.UEFI, variables=Path(f"{name}_VARS.fd"))
    told(host, made, tmp_path, pool if in_pool else None, start=True)
    assert virsh(host, "domstate", name).strip() == "running"
    virsh(host, "destroy", name)
    own = tmp_path / f"{name}_VARS.fd"
    if in_pool:
        own = Path(virsh(host, "vol-path", "--pool", "tank", own.name).strip())
    assert str(own) in virsh(host, "dumpxml", name)
    # libvirt makes a store only where there is none: this one is what QEMU was given
    assert "Mark" in {each.name for each in read_store(own.read_bytes())}


def test_without_a_pool_the_disks_stay_where_they_are(host: LibvirtHost, tmp_path: Path) -> None:
    told(host, machine("web2", 2), tmp_path)
    assert str(tmp_path / "web2-0.qcow2") in virsh(host, "dumpxml", "web2")


@pytest.mark.parametrize(("name", "number"), [("web3", 99), ("other", 3)], ids=["its name is taken", "its UUID is taken"])
def test_a_domain_that_exists_is_told_before_anything_is_copied(
    host: LibvirtHost, tmp_path: Path, name: str, number: int
) -> None:
    if "web3" not in virsh(host, "list", "--all", "--name"):
        told(host, machine("web3", 3), tmp_path)
    with pytest.raises(TargetExists):
        host.check(name, machine(name, number).uuid, [], [])


def test_a_volume_that_exists_is_never_replaced(host: LibvirtHost, pool: Pool, tmp_path: Path) -> None:
    made = machine("web4", 4)
    file = disk(tmp_path, made)
    host.upload(pool, file.path, file.format, file.capacity)
    file.path.unlink()
    with pytest.raises(TargetExists):
        told(host, made, tmp_path, pool)
    assert "web4-0.qcow2" in virsh(host, "vol-list", "--pool", "tank")
    assert "web4" not in virsh(host, "list", "--all", "--name")


def test_volumes_are_taken_back_when_the_domain_is_refused(host: LibvirtHost, pool: Pool, tmp_path: Path) -> None:
    made = machine("web5", 5)
    with pytest.raises(ProgramFailed):
        deliver(Delivery(host), [dataclasses.replace(disk(tmp_path, made), pool=pool)], "web5", lambda _: "<domain/>")
    assert "web5" not in virsh(host, "vol-list", "--pool", "tank")


@pytest.mark.parametrize(
    ("networks", "pool_name"),
    [(["nowhere"], None), (["stopped"], None), ([], "nowhere")],
    ids=["no such network", "a network that is not started", "no such pool"],
)
def test_what_is_not_there_is_told_before_anything_is_copied(
    host: LibvirtHost, tmp_path: Path, networks: list[str], pool_name: str | None
) -> None:
    if "stopped" in networks:
        network(host, tmp_path, "stopped", started=False)
    with pytest.raises(Usage):
        host.check("web6", machine("web6", 6).uuid, networks, [pool_name] if pool_name else [])


def test_what_is_there_is_good(host: LibvirtHost, pool: Pool, tmp_path: Path) -> None:
    network(host, tmp_path, "lab", started=True)
    assert host.check("web7", machine("web7", 7).uuid, ["lab", "lab"], ["tank"]) == {"tank": pool}


def test_disks_go_to_pools_of_their_own_and_media_where_the_first_goes(host: LibvirtHost, pool: Pool, tmp_path: Path) -> None:
    virsh(host, "pool-define-as", "fast", "dir", "--target", str(tmp_path / "fast"))
    virsh(host, "pool-build", "fast")
    virsh(host, "pool-start", "fast")
    made = dataclasses.replace(hardware("web8", disks=3), uuid=machine("web8", 8).uuid, nics=(), cdroms=1)
    made = dataclasses.replace(made, media=(TargetMedium(DriveKind.CDROM, 0, Path("web8-cdrom1.iso")),))
    for index in range(3):
        disk(tmp_path, made, index)
    (tmp_path / "web8-cdrom1.iso").write_bytes(bytes(2 * MIB))
    # the second disk stays the file it is
    wanted = Delivery(host, Storage(None, {0: "fast", 2: "tank"}), start=True)
    pools = check_delivery(wanted, made)
    assert set(pools) == {"fast", "tank"}
    deliver_machine(wanted, pools, made, [64 * MIB] * 3, Outputs(tmp_path, ()), TCG, None)
    assert virsh(host, "domstate", "web8").strip() == "running"
    virsh(host, "destroy", "web8")
    fast = virsh(host, "vol-list", "--pool", "fast")
    assert "web8-0.qcow2" in fast
    assert "web8-cdrom1.iso" in fast
    assert "web8-2.qcow2" in virsh(host, "vol-list", "--pool", "tank")
    assert str(tmp_path / "web8-1.qcow2") in virsh(host, "dumpxml", "web8")


def test_a_pool_of_devices_takes_no_qcow2(monkeypatch: pytest.MonkeyPatch) -> None:
    logical = Pool("vg", "logical", is_active=True)
    monkeypatch.setattr(LibvirtHost, "check", lambda *_: {"vg": logical})
    wanted = Delivery(LibvirtHost("", RUNNER), Storage(None, {1: "vg"}))
    with pytest.raises(Usage) as refused:
        check_delivery(wanted, hardware(disks=2))
    assert "--format raw" in refused.value.hint()
    assert check_delivery(wanted, hardware(disks=1)) == {"vg": logical}


def test_a_libvirt_that_does_not_answer_is_told(tmp_path: Path) -> None:
    nobody = LibvirtHost(f"qemu+unix:///system?socket={tmp_path}/none", RUNNER)
    with pytest.raises(P2vError):
        nobody.check("web8", "2b4ad1e5-0c74-5a77-8a44-000000000008", [], [])


def lacking(made: TargetHardware) -> list[str]:
    """What is not installed here and a machine needs."""
    of_tpm = [tool for tool in ("swtpm", "swtpm_setup", "swtpm_cert", "certtool") if made.tpm and find_program(tool) is None]
    has_keys = not made.secure_boot or installed_firmware(secure_boot=True) is not None
    return of_tpm + ([] if has_keys else ["UEFI firmware with keys"])


@pytest.mark.parametrize(("name", "number"), [("nt4", 40), ("xp", 41), ("7", 42), ("2016", 43), ("11", 44)])
def test_machines_for_windows_are_taken_and_start(host: LibvirtHost, tmp_path: Path, name: str, number: int) -> None:
    title = f"windows-{name}"
    made = dataclasses.replace(
        hardware_of(GENERATIONS[name]), name=title, uuid=machine(title, number).uuid, nics=(), memory_bytes=256 * MIB,
        disks=(TargetDisk(Path(f"{title}.qcow2")),),
    )  # fmt: skip
    if missing := lacking(made):
        pytest.skip(f"not installed: {', '.join(missing)}")
    told(host, made, tmp_path, start=True)
    assert virsh(host, "domstate", title).strip() == "running"
    seen = ET.fromstring(virsh(host, "dumpxml", title))
    virsh(host, "destroy", title)
    assert [timer.get("tickpolicy") or timer.get("present") for timer in seen.findall("clock/timer")] == ["catchup", "delay", "no"]
    tablets = [each.get("bus") for each in seen.findall("devices/input") if each.get("type") == "tablet"]
    assert tablets == ([] if name == "nt4" else ["usb"])
    # this libvirt has no KVM
    assert seen.find("features/hyperv") is None
    assert (seen.find("devices/tpm") is not None, seen.find("features/smm") is not None) == (made.tpm, made.secure_boot)
