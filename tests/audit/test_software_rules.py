"""The rules about software, each with a guest that makes it fire and one that does not."""

from __future__ import annotations

import tomllib
from collections.abc import Callable
from dataclasses import replace
from importlib import resources

import pytest

from drivers.changes import CopyFile, DeleteFile, DeleteSymlink, EditFile, ExtendInitramfs, MakeSymlink, WriteFile
from drivers.facts import BootEntry, BootLoader, Initramfs, InterfaceConfig, Kernel, Network, Tool
from drivers.guest_sights import GuestSights, look_over
from drivers.plan import Finding
from drivers.programs import ProgramKind
from drivers.windows.facts import WindowsFacts
from p2v.audit.document import Verdict, verdict
from p2v.audit.examined import Examined
from p2v.audit.findings import AuditFinding, EvidenceKind, Severity
from p2v.audit.rules import devices, programs, roles, software
from p2v.consistency import LiveSource, Way
from p2v.core.units import GIB
from tests.audit import software_guests as guests
from tests.audit.software_guests import linux, seen, windows
from tests.drivers.memory_tree import InMemoryTree, Node
from tests.drivers.windows.guest_facts import facts as windows_facts
from tests.drivers.windows.guest_facts import service
from tests.fixtures.hives import Tree, dword, multi_sz, sz

CHECKS = (*programs.CHECKS, *roles.CHECKS, *devices.CHECKS, *software.CHECKS)
CLEAN = linux(seen())
SERVICES = "ControlSet001\\Services"
UNINSTALL = "Microsoft\\Windows\\CurrentVersion\\Uninstall"
EDIT = EditFile("/etc/fstab", "a", "b", "why")


def _services(*names: str, start: int = 2) -> WindowsFacts:
    return windows_facts({f"{SERVICES}\\{name}": service(start) for name in names})


def _windows(system: Tree, software_keys: Tree | None = None) -> Examined:
    return windows(windows_facts(system, software_keys))


def _file(path: str, text: str) -> Examined:
    return linux(seen(more={path: text}))


def _server_2003(suites: tuple[str, ...] = (), cpus: int = 2, memory_bytes: int = 2 * GIB) -> Examined:
    made = windows_facts(
        {"ControlSet001\\Control\\ProductOptions": {"ProductSuite": multi_sz(*suites)} if suites else {}},
        version=(5, 2),
        arch="i386",
    )
    made = replace(made, version=replace(made.version, product_type="ServerNT"))
    return windows(made, guests.a_machine(cpus, memory_bytes))


def _extension(modules: tuple[str, ...]) -> ExtendInitramfs:
    return ExtendInitramfs("/boot/initrd", 1, "00" * 32, "6.1", "/usr/lib/modules/6.1", modules, "lib", "none", "why")


def _crash_kernel(arguments: str) -> Examined:
    entry = BootEntry("Linux", "/boot/vmlinuz", (), arguments)
    return linux(
        seen(), replace(guests.LINUX, boot_loader=BootLoader("grub2", "/boot/grub/grub.cfg", (entry,), "Linux"))
    )


def _tools(*tools: Tool, warnings: tuple[Finding, ...] = ()) -> Examined:
    return linux(seen(), replace(guests.LINUX, tools=tools), warnings=warnings)


VMTOOLS = Tool("open-vm-tools", "vmware", "package open-vm-tools", ("open-vm-tools.service",))
WLBS: Tree = {
    f"{SERVICES}\\WLBS": service(3),
    f"{SERVICES}\\WLBS\\Parameters\\Interface\\{{11111111-2222-3333-4444-555555555555}}": {
        "ClusterIPAddress": sz("10.0.0.50")
    },
}
MTAB_TAPES = "Device { Name = drive; Archive Device = /dev/nst0 }\n"
ASM_RULE = 'KERNEL=="sd*", SUBSYSTEM=="block", RESULT=="36000c29f1", SYMLINK+="oracleasm/disk1", OWNER="oracle"\n'
LICENCE = "SERVER lic01 {} 27000\nVENDOR acme\nFEATURE cad acme 1.0 permanent 5 SIGN=1234\n"

MANY_SCRIPTS: dict[str, Node] = {f"/usr/local/sbin/{n}": f"#!/bin/sh\nmount /dev/sdb{n}\n" for n in range(1, 60)}

FIRING: dict[str, Callable[[], Examined]] = {
    "role.cluster-member": lambda: linux(seen("pacemaker", "corosync")),
    "role.floating-address": lambda: linux(seen("keepalived")),
    "role.network-load-balancing": lambda: _windows(WLBS),
    "role.shared-storage": lambda: linux(seen("drbd-utils")),
    "role.directory": lambda: linux(seen(more={"/var/lib/samba/private/sam.ldb": b"TDB file"})),
    "role.name-server": lambda: windows(_services("DNS")),
    "role.address-server": lambda: linux(seen("isc-dhcp-server")),
    "role.certificate-authority": lambda: windows(_services("CertSvc")),
    "software.backup-agent": lambda: linux(seen(more={"/usr/openv/netbackup/bp.conf": "SERVER = nbu\n"})),
    "software.antivirus": lambda: windows(_services("McShield")),
    "software.management-agent": lambda: windows(_services("HealthService", "CcmExec")),
    "software.database": lambda: windows(_services("MSSQL$ERP")),
    "software.licence-server": lambda: windows(_services("TermServLicensing")),
    "software.licence-bound": lambda: _file("/opt/acme/licenses/acme.lic", LICENCE.format("DISK_SERIAL_NUM=1a2b3c4d")),
    "software.dongle": lambda: windows(_services("hasplms")),
    "software.graphics": lambda: linux(seen("nvidia-driver-550")),
    "software.needs-hardware": lambda: linux(seen("apcupsd")),
    "software.hypervisor": lambda: windows(_services("vmms")),
    "software.containers": lambda: linux(seen("docker-ce")),
    "software.real-time": lambda: linux(seen("linux-image-rt-amd64")),
    "software.multipath": lambda: linux(seen("multipath-tools")),
    "software.crash-dump": lambda: _crash_kernel("root=UUID=1 ro crashkernel=256M quiet"),
    "software.no-time-service": lambda: windows(windows_facts({
        f"{SERVICES}\\W32Time": service(2), f"{SERVICES}\\W32Time\\Parameters": {"Type": sz("NoSync")},
    })),
    "software.foreign-tools": lambda: _tools(VMTOOLS),
    "software.host-only-initramfs": lambda: linux(seen(), changes=(_extension(("kernel/virtio_blk.ko",)),)),
    "software.not-looked-at": lambda: linux(None),
    "software.packages-unread": lambda: linux(look_over(InMemoryTree(guests.CLEAN_FILES), lambda _: "")),
    "software.immutable-file": lambda: linux(seen(flags={"/etc/fstab": "i"}), changes=(EDIT,)),
    "software.flags-unread": lambda: linux(look_over(InMemoryTree(guests.files_with())), changes=(EDIT,)),
    "software.edition-limit": lambda: _server_2003(),
    "device-name.disk": lambda: _file("/etc/cron.d/backup", "0 2 * * * root dd if=/dev/sda of=/srv/mbr bs=512 count=1\n"),
    "device-name.identity": lambda: _file("/etc/udev/rules.d/99-asm.rules", ASM_RULE),
    "device-name.interface": lambda: _file("/etc/keepalived/keepalived.conf", "vrrp_instance a {\n  interface ens192\n}\n"),
    "device-name.device": lambda: _file("/etc/bacula/bacula-sd.conf", MTAB_TAPES),
    "device-name.driver-options": lambda: _file("/etc/modprobe.d/hba.conf", "options qla2xxx ql2xmaxqdepth=32\n"),
    "device-name.left-out": lambda: linux(seen(more=MANY_SCRIPTS)),
}  # fmt: skip

QUIET: dict[str, Callable[[], Examined]] = {
    "role.network-load-balancing": lambda: _windows({**WLBS, f"{SERVICES}\\WLBS": service(4)}),
    "role.name-server": lambda: windows(_services("DNS", start=4)),
    "role.certificate-authority": lambda: windows(_services("CertSvc", start=3)),
    "software.antivirus": lambda: windows(_services("WinDefend", "Sense", start=3)),
    "software.database": lambda: linux(seen("postgresql-client-15", "mariadb-client", "mysql-common")),
    "software.licence-bound": lambda: _file("/opt/acme/licenses/acme.lic", LICENCE.format("ANY")),
    "software.dongle": lambda: windows(_services("usbhub", "WUDFRd")),
    "software.crash-dump": lambda: _crash_kernel("root=UUID=1 ro crashkernel=0 quiet"),
    "software.no-time-service": lambda: _windows({
        f"{SERVICES}\\W32Time": service(2), f"{SERVICES}\\W32Time\\Parameters": {"Type": sz("NT5DS")},
    }),
    "software.foreign-tools": lambda: _tools(replace(VMTOOLS, name="qemu-guest-agent", vendor="qemu")),
    "software.immutable-file": lambda: linux(seen(flags={"/etc/crontab": "i", "/etc/default/cron": "ia"}), changes=(EDIT,)),
    "software.flags-unread": lambda: linux(look_over(InMemoryTree(guests.files_with()))),
    "software.host-only-initramfs": lambda: linux(seen(), changes=(_extension(()),)),
    "software.edition-limit": lambda: _server_2003(cpus=64),
    "device-name.disk": lambda: linux(
        seen(more={"/etc/cron.d/x": "0 2 * * * root dd if=/dev/sda of=/x\n"}), caps=replace(guests.CAPS,
        disk_buses=("virtio-scsi",)),
    ),
    "device-name.identity": lambda: _file("/etc/udev/rules.d/9.rules", 'SUBSYSTEM=="net", ATTR{serial}=="abcdef", NAME="x"\n'),
    "device-name.interface": lambda: linux(
        seen(more={"/etc/keepalived/keepalived.conf": "  interface ens192\n"}),
        replace(guests.LINUX, network=Network(("networkd",), (InterfaceConfig("ens192", "/etc/x", "dhcp"),))),
    ),
    "device-name.device": lambda: _file("/etc/bacula/bacula-sd.conf", "Archive Device = /srv/backup\n# /dev/nst0\n"),
    "device-name.driver-options": lambda: _file("/etc/modprobe.d/x.conf", "options kvm_intel nested=1\nblacklist lpfc\n"),
}  # fmt: skip


def _own_rules() -> set[str]:
    return set(tomllib.loads(resources.files("p2v.audit").joinpath("catalogue/software.toml").read_text("utf-8")))


def fired(examined: Examined) -> set[str]:
    return guests.rules_of(examined, CHECKS)


def only(examined: Examined, rule: str) -> AuditFinding:
    (found,) = (each for each in guests.findings(examined, CHECKS) if each.rule == rule)
    return found


def test_every_rule_has_a_guest_that_makes_it_fire() -> None:
    assert set(FIRING) == _own_rules()


@pytest.mark.parametrize("rule", FIRING)
def test_rule_fires(rule: str) -> None:
    assert rule in fired(FIRING[rule]())


@pytest.mark.parametrize("rule", FIRING)
def test_clean_guests_make_no_rule_fire(rule: str) -> None:
    assert rule not in fired(CLEAN)
    assert rule not in fired(_windows({f"{SERVICES}\\W32Time": service(2), f"{SERVICES}\\Dhcp": service(2)}))


@pytest.mark.parametrize("rule", QUIET)
def test_what_only_looks_like_it_makes_no_rule_fire(rule: str) -> None:
    assert rule not in fired(QUIET[rule]())


def test_every_kind_of_program_is_told_of_or_looked_at() -> None:
    assert set(ProgramKind) - set(programs.TELLINGS) == {ProgramKind.CRASH_DUMP, ProgramKind.TIME}
    assert {rule for rule, _ in programs.TELLINGS.values()} <= _own_rules()


@pytest.mark.parametrize("rule", FIRING)
def test_evidence_and_messages_are_whole_and_printable(rule: str) -> None:
    for finding in guests.findings(FIRING[rule](), CHECKS):
        assert finding.message.isprintable()
        assert "{" not in finding.message.replace("{11111111", "")
        assert finding.remedy
        assert all(each.text.isprintable() and each.where for each in finding.evidence)


def test_a_ready_guest_stays_ready() -> None:
    assert verdict(guests.findings(CLEAN, CHECKS), CLEAN.rules) is Verdict.READY


# --- programs ------------------------------------------------------------------------------------------------------------


def test_programs_of_one_kind_are_one_finding_with_the_evidence_for_each() -> None:
    finding = only(linux(seen("pacemaker", "corosync")), "role.cluster-member")
    assert "Pacemaker, Corosync" in finding.message
    assert [(each.kind, each.where, each.text) for each in finding.evidence] == [
        (EvidenceKind.FILE, "/var/lib/dpkg/status", "package pacemaker"),
        (EvidenceKind.FILE, "/var/lib/dpkg/status", "package corosync"),
    ]


def test_a_service_is_shown_by_its_key() -> None:
    (evidence,) = only(windows(_services("CcmExec")), "software.management-agent").evidence
    assert (evidence.kind, evidence.where, evidence.text) == (
        EvidenceKind.REGISTRY, "SYSTEM\\ControlSet001\\Services\\CcmExec", "Start = 2",
    )  # fmt: skip


@pytest.mark.parametrize("view", [UNINSTALL, UNINSTALL.replace("Microsoft", "Wow6432Node\\Microsoft", 1)])
def test_a_program_is_known_by_the_list_of_installed_ones(view: str) -> None:
    examined = _windows({}, {f"{view}\\TSM": {"DisplayName": sz("IBM Tivoli Storage Manager Client")}})
    (evidence,) = only(examined, "software.backup-agent").evidence
    assert evidence.where == f"SOFTWARE\\{view}\\TSM\\DisplayName"
    assert evidence.text == "IBM Tivoli Storage Manager Client"


def test_a_database_that_is_copied_while_it_runs_is_a_warning() -> None:
    examined = linux(seen("postgresql-15"))
    assert only(examined, "software.database").severity is Severity.INFORMATION
    live = LiveSource(0, "/dev/sda", GIB, Way.AS_IT_RUNS, ())
    examined = replace(examined, document=replace(examined.document, live=(live,)))
    assert only(examined, "software.database").severity is Severity.WARNING


def test_dongles_and_fibre_channel_cards_are_known_by_plug_and_play() -> None:
    enum = "ControlSet001\\Enum"
    examined = _windows({
        f"{enum}\\USB\\Vid_0529&Pid_0001\\5&1": {"Service": sz("aksusb")},
        f"{enum}\\PCI\\VEN_1077&DEV_2432&SUBSYS_1\\4&2": {"Service": sz("ql2300")},
        f"{enum}\\PCI\\VEN_10DF&DEV_0720&SUBSYS_1\\4&2": {"Service": sz("be2net")},
    })  # fmt: skip
    assert "Sentinel (HASP) dongle" in only(examined, "software.dongle").message
    hardware = only(examined, "software.needs-hardware")
    assert "QLogic" in hardware.message
    assert "Emulex" not in hardware.message


def test_multipath_in_an_initramfs_is_evidence() -> None:
    image = Initramfs("/boot/initrd", 1, "00" * 32, modules=("dm_multipath", "sd_mod"))
    kernel = Kernel("6.1", "/boot/vmlinuz", "/lib/modules/6.1", image)
    examined = linux(seen("multipath-tools"), replace(guests.LINUX, kernels=(kernel,)))
    assert [each.where for each in only(examined, "software.multipath").evidence] == [
        "/var/lib/dpkg/status",
        "/boot/initrd",
    ]


def test_windows_clusters_and_domain_controllers_are_left_to_the_plan() -> None:
    made = _services("ClusSvc", "NTDS")
    made = replace(made, version=replace(made.version, product_type="LanmanNT"))
    assert not {rule for rule in fired(windows(made)) if rule.startswith("role.")}


# --- what could not be seen ----------------------------------------------------------------------------------------------


def test_what_was_not_looked_at_is_unknown_and_does_not_decide() -> None:
    for inside in (None, GuestSights()):
        examined = linux(inside)
        assert only(examined, "software.not-looked-at").severity is Severity.UNKNOWN
        assert verdict(guests.findings(examined, CHECKS), examined.rules) is Verdict.READY
    assert (
        fired(replace(CLEAN, inside=None, document=replace(CLEAN.document, facts=replace(guests.LINUX, os=None))))
        == set()
    )


def test_a_linux_that_asks_nobody_for_the_time() -> None:
    files = {**guests.CLEAN_FILES, "/var/lib/dpkg/status": guests.packages("bash")}
    nobody = look_over(InMemoryTree(dict[str, Node](files)), lambda _: "")
    assert "software.no-time-service" in fired(linux(nobody))
    daemon = look_over(InMemoryTree(dict[str, Node]({**files, "/usr/sbin/chronyd": b"\x7fELF"})), lambda _: "")
    assert "software.no-time-service" not in fired(linux(daemon))


# --- files that may not be changed ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("flags", "change", "is_told"),
    [
        ({"/etc/fstab": "i"}, EDIT, True),
        ({"/etc/fstab": "a"}, EDIT, True),
        ({"/etc": "i"}, EDIT, False),
        ({"/etc": "i"}, WriteFile("/etc/new", "x", 0o644, "why"), True),
        ({"/etc": "a"}, WriteFile("/etc/new", "x", 0o644, "why"), False),
        ({"/boot": "i"}, CopyFile("/etc/fstab", 1, "00" * 32, "/boot/x", 0o644, "why"), True),
        ({"/etc": "a"}, DeleteFile("/etc/fstab", "00" * 32, "why"), True),
        ({"/etc/fstab": "i"}, DeleteFile("/etc/fstab", "00" * 32, "why"), True),
        ({"/etc": "i"}, DeleteSymlink("/etc/link", "x", "why"), True),
        ({"/etc": "i"}, MakeSymlink("/etc/link", "x", None, "why"), True),
        ({"/etc": "a"}, MakeSymlink("/etc/link", "x", None, "why"), False),
        ({"/etc": "a"}, MakeSymlink("/etc/link", "x", "y", "why"), True),
        ({"/boot/initrd": "i"}, _extension(()), True),
        ({"/boot/initrd": "a"}, _extension(()), False),
    ],
)  # fmt: skip
def test_flags_stop_what_they_stop(flags: dict[str, str], change: object, is_told: bool) -> None:
    more: dict[str, Node] = {"/boot/initrd": b"x", "/boot/grub/grub.cfg": "x"}
    examined = linux(seen(more=more, flags=flags), changes=(change,))  # type: ignore[arg-type]
    assert ("software.immutable-file" in fired(examined)) is is_told
    if is_told:
        found = only(examined, "software.immutable-file")
        assert found.severity is Severity.BLOCKER
        assert found.evidence[0].where in flags
        assert verdict([found], examined.rules) is Verdict.BLOCKED


# --- device names --------------------------------------------------------------------------------------------------------


def test_each_file_is_one_finding_with_its_lines() -> None:
    text = "#!/bin/sh\n# /dev/sdz\nhdparm -S 0 /dev/sdb\nmount /dev/disk/by-path/pci-0000:00:1f.2-ata-1-part1 /mnt\n"
    finding = only(_file("/etc/rc.local", text), "device-name.disk")
    assert "/etc/rc.local" in finding.message
    assert [(each.line, each.text) for each in finding.evidence] == [
        (3, "hdparm -S 0 /dev/sdb"), (4, "mount /dev/disk/by-path/pci-0000:00:1f.2-ata-1-part1 /mnt"),
    ]  # fmt: skip


def test_names_that_a_plan_looks_at_are_left_to_it() -> None:
    told = {
        "/etc/hdparm.conf": "/dev/sda {\n}\n",
        "/etc/smartd.conf": "/dev/sda -a\n",
        "/etc/default/grub": 'GRUB_CMDLINE_LINUX="resume=/dev/sda5"\n',
        "/etc/sysconfig/rawdevices": "/dev/raw/raw1 /dev/sdb1\n",
        "/etc/mdadm/mdadm.conf": "DEVICE /dev/sda1\n",
    }
    assert not {rule for rule in fired(linux(seen(more=dict[str, Node](told)))) if rule.startswith("device-name.")}


def test_disks_by_place_are_other_ones_on_any_bus() -> None:
    caps = replace(guests.CAPS, disk_buses=("sata",))
    inside = seen(more={"/etc/rc.local": "mount /dev/disk/by-id/ata-ST3_Z1-part1 /mnt\nmount /dev/sdb1 /x\n"})
    assert [each.line for each in only(linux(inside, caps=caps), "device-name.disk").evidence] == [1]


# --- licences, limits ----------------------------------------------------------------------------------------------------


def test_a_licence_for_a_mac_address_that_stays_is_nothing() -> None:
    assert "software.licence-bound" not in fired(_file("/opt/a/b.lic", LICENCE.format(guests.MAC.replace(":", ""))))
    finding = only(_file("/opt/a/b.lic", LICENCE.format("001122334455")), "software.licence-bound")
    assert "001122334455" in finding.message
    assert finding.evidence[0].line == 1
    assert "MAC" in finding.remedy


def test_limits_of_an_edition_are_told_once() -> None:
    finding = only(_server_2003(("Blade",)), "software.edition-limit")
    assert "Web Edition" in finding.message
    assert "2.0 GiB" in finding.message
    assert {each.kind for each in finding.evidence} == {EvidenceKind.REGISTRY, EvidenceKind.DATA}
    assert finding.evidence[1].text.startswith("https://")
    # the plan's hardware tells of these
    assert "software.edition-limit" not in fired(_server_2003(("Blade",), memory_bytes=8 * GIB))


def test_newer_editions_are_not_told_of() -> None:
    made = windows_facts({}, version=(10, 0))
    made = replace(made, version=replace(made.version, edition_id="Professional"))
    assert "software.edition-limit" not in fired(windows(made))


def test_tools_that_stay_active_are_left_to_the_plan() -> None:
    left = Finding("linux.tools.left", "open-vm-tools stays active: it is the guest's own file")
    assert "software.foreign-tools" not in fired(_tools(VMTOOLS, warnings=(left,)))
    finding = only(_tools(VMTOOLS), "software.foreign-tools")
    assert finding.fixed_by_conversion
    assert finding.evidence[0].text == "package open-vm-tools"


# --- hostile guests ------------------------------------------------------------------------------------------------------


def test_a_hostile_registry_is_cut_and_escaped() -> None:
    title = "IBM Tivoli Storage Manager Client\x1b[31m\n" + "x" * 100_000
    finding = only(_windows({}, {f"{UNINSTALL}\\\x07": {"DisplayName": sz(title)}}), "software.backup-agent")
    (evidence,) = finding.evidence
    assert evidence.text.isprintable()
    assert len(evidence.text) < 600
    cluster = {**WLBS}
    key = next(key for key in cluster if "Interface" in key)
    cluster[key] = {"ClusterIPAddress": sz("\x1b]0;x\x07" * 1000)}
    assert only(_windows(cluster), "role.network-load-balancing").message.isprintable()


def test_values_of_wrong_types_are_no_finding() -> None:
    tree: Tree = {f"{SERVICES}\\CcmExec": {"Start": sz("2")}, f"{SERVICES}\\W32Time\\Parameters": {"Type": dword(1)}}
    assert "software.management-agent" not in fired(_windows(tree))
    assert "software.no-time-service" not in fired(_windows(tree))


def test_a_windows_without_control_sets_is_no_crash() -> None:
    made = windows_facts({}, sets=replace(windows_facts({}).control_sets, current=None, default=None, present=()))
    assert fired(windows(made)) <= {"software.edition-limit"}
