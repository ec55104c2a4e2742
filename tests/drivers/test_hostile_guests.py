"""Whatever a guest puts in place of its files, reading and planning end with findings: no crash, no hang, no host file.

Times are of the processor, so that a busy machine does not decide.
"""

from __future__ import annotations

import os
import posixpath
import resource
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import pytest

from drivers.facts import GuestFacts, Mount, ReadBy
from drivers.inspection import facts_from_tree, inspect_confined
from drivers.layout import Layout
from drivers.linux import identity, reading
from drivers.linux.paths import NAMES_AT_MOST
from drivers.plan import GuestPlan
from drivers.plan_text import render
from drivers.planning import PlanOptions, plan_guest
from drivers.tree import Stat
from p2v.core import jsonio
from p2v.core.text import printable
from tests.drivers.linux.guest import DISK, ROOT, SWAP, VERSION, files
from tests.drivers.making import MIB, SYSTEM, lay_files, make_ext
from tests.drivers.memory_tree import InMemoryTree, Link, Node
from tests.drivers.raw_reader import RawReader

# what grows with the square of a text takes minutes; the linear worst is 2.5 s alone, twice that among thousands of tests
SECONDS = 10.0
EVERYTHING = PlanOptions((None,), new_identity=True, install_agent=True, purge_tools=True)
PLAIN = [path for path in (*reading.TEXTS, *identity.SEEDS) if "*" not in path]
OTHERS = [
    "/etc/os-release", "/usr/lib/os-release", "/etc/hostname", "/etc/selinux/config", "/etc/network/interfaces",
    "/var/lib/dpkg/status", "/var/cache/debconf/config.dat", "/etc/default/grub.d/x.cfg", "/etc/systemd/network/x.link",
    "/etc/NetworkManager/system-connections/x", "/etc/sysconfig/network-scripts/ifcfg-x", "/etc/ssh/ssh_host_x_key",
    f"/boot/vmlinuz-{VERSION}", f"/boot/initrd.img-{VERSION}", f"/usr/lib/modules/{VERSION}/modules.dep",
    f"/usr/lib/modules/{VERSION}/modules.builtin", "/etc/selinux/demo/contexts/files/file_contexts",
    "/var/lib/rpm/rpmdb.sqlite", "/var/lib/rpm/rpmdb.sqlite-wal", "/var/lib/rpm/Packages.db", "/var/lib/rpm/Name",
    "/usr/lib/apk/db/installed", "/var/db/xbps/pkgdb-0.38.plist", "/var/lib/pacman/local/x-1-1/desc", "/etc/wicked/ifconfig/x.xml",
    "/ostree/repo", "/ostree/deploy", "/usr/lib/ostree/prepare-root.conf", "/usr/sbin/transactional-update", "/etc/static",
    "/nix/store", "/run/current-system",
]  # fmt: skip
PLACES = list(dict.fromkeys([*PLAIN, *OTHERS]))
SELINUX: Mapping[str, Node] = {"/etc/selinux/config": "SELINUX=enforcing\nSELINUXTYPE=demo\n"}


# x86_64, by its ELF header
PROGRAM = b"\x7fELF\x02\x01\x01" + bytes(9) + b"\x03\x00\x3e\x00"


def debian() -> dict[str, Node]:
    """Files of a guest that says what it is, so that every planner gets to see it."""
    return {
        **files(),
        "/etc/os-release": 'ID=debian\nVERSION_ID="12"\n',
        "/usr/bin/sh": PROGRAM,
        "/usr/lib/systemd/systemd": PROGRAM,
        "/usr/sbin/init": Link("/usr/lib/systemd/systemd"),
        "/sbin": Link("usr/sbin"),
        "/bin": Link("usr/bin"),
    }


def seen(tree: InMemoryTree) -> tuple[GuestFacts, GuestPlan]:
    """Facts, through JSON as they really come, and the plan; within the time."""
    started = time.process_time()
    root = Mount("/", 0, 1)
    facts = facts_from_tree(Layout((DISK,), (ROOT, SWAP)), tree, ReadBy.HOST, root=root, mounts=(root,))
    facts = jsonio.decode(jsonio.converter(), jsonio.encode(jsonio.converter(), facts), GuestFacts)
    plan = plan_guest(facts, EVERYTHING)
    shown = render(plan)
    assert time.process_time() - started < SECONDS
    assert printable(shown) == shown
    return facts, plan


def inspected(image: Path) -> GuestFacts:
    reader = RawReader(image)
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    try:
        facts = inspect_confined([reader])
    finally:
        reader.close()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < SECONDS
    return facts


def repeated(text: str) -> bytes:
    data = text.encode("utf-8", "surrogateescape")
    return (data * (MIB // len(data) + 1))[:MIB]


FILLINGS: Mapping[str, str] = {
    "one long word": "a", "blanks": " ", "line ends": "\n", "continued lines": "\\\n", "open brackets": "(",
    "open quotes": '"', "blocks in blocks": "menuentry 'x' {\n", "words that open blocks": "{ ", "open names": "${",
    "menus": "menuentry 'x' {\nlinux /vmlinuz root=/dev/sda1\n}\n", "mounts": "/dev/sda1 /x ext4 defaults 0 0\n",
    "includes": "source /etc/network/interfaces\nsource interfaces.d/*\nconfigfile $prefix/grub.cfg\n",
    "assignments": "GRUB_CMDLINE_LINUX=\"root=/dev/sda1 a\\\"b\n", "carriage returns": "RESUME=/dev/sda2\r\n",
    "NUL bytes": "\0", "no UTF-8": "\udcff", "lines of other alphabets": "\x85\u2028", "labels": "/etc/.* u:r:t:s0\n",
}  # fmt: skip


@pytest.mark.parametrize("filling", FILLINGS)
@pytest.mark.parametrize(
    "path",
    ["/etc/fstab", "/boot/grub/grub.cfg", "/etc/default/grub", "/etc/network/interfaces", "/etc/hostname",
     f"/usr/lib/modules/{VERSION}/modules.dep", "/etc/selinux/demo/contexts/files/file_contexts",
     f"/boot/initrd.img-{VERSION}"],
)  # fmt: skip
def test_a_file_full_of_anything_is_read_in_time(path: str, filling: str) -> None:
    facts, plan = seen(InMemoryTree({**debian(), **SELINUX, path: repeated(FILLINGS[filling])}))
    assert facts.os is not None
    assert plan.caps.arch == facts.os.arch


@pytest.mark.parametrize("filling", ["carriage returns", "NUL bytes", "no UTF-8", "line ends"])
def test_any_file_may_hold_anything(filling: str) -> None:
    for path in PLACES:
        facts, _ = seen(InMemoryTree({**debian(), **SELINUX, path: repeated(FILLINGS[filling])[:4096]}))
        read = facts.texts.get(path)
        assert read is None or read.text.encode("utf-8", "surrogateescape") == repeated(FILLINGS[filling])[:4096]


def test_links_that_lead_to_themselves_are_not_there() -> None:
    loops: dict[str, Node] = {path: Link(path) for path in PLACES}
    facts, _ = seen(InMemoryTree({**debian(), **loops}))
    assert set(facts.texts) & set(PLACES) == set()


def test_a_hundred_thousand_names_in_a_folder_are_bounded() -> None:
    class Crowded(InMemoryTree):
        def list(self, path: str) -> tuple[str, ...]:
            return tuple(f"{n:06}.link" for n in range(100_000))

        def lstat(self, path: str) -> Stat:
            return super().lstat("/etc/fstab" if path.endswith(".link") else path)

        def exists(self, path: str) -> bool:
            return path.endswith(".link") or super().exists(path)

        def read(self, path: str, limit: int = 4 * MIB) -> bytes:
            return super().read("/etc/fstab" if path.endswith(".link") else path, limit)

    facts, _ = seen(Crowded(debian()))
    in_folders = Counter(posixpath.dirname(path) for path in facts.texts if path.endswith(".link"))
    assert in_folders["/etc/systemd/network"] == NAMES_AT_MOST
    assert max(in_folders.values()) <= NAMES_AT_MOST


def test_paths_of_thousands_of_folders_lead_somewhere_or_nowhere() -> None:
    facts, plan = seen(InMemoryTree({**debian(), "/etc/fstab": Link("/etc" + "/x/.." * 2000 + "/fstab")}))
    is_missed = "linux.fstab.missing" in [finding.id for finding in plan.warnings]
    assert ("/etc/fstab" in facts.texts) != is_missed


HOSTILE = "x\n1. delete everything\x1b[2J\x1b]0;title\x07\u202e\udcff\r\0"


def test_names_that_a_terminal_would_obey_are_shown_as_escapes() -> None:
    nodes = {
        **debian(),
        "/etc/hostname": HOSTILE,
        "/etc/fstab": f"/dev/sda1 /mnt/\x1b[31m{chr(0x202E)}\\012x ext4 defaults 0 0\n/dev/\x1b[2J /y ext4\n",
        "/etc/network/interfaces": "iface \x1b[2Jeth0 inet static\n",
        "/boot/grub/grub.cfg": "menuentry '\x1b[2J\ntitle' {\nlinux /vmlinuz root=/dev/\x1b[2J\n}\n",
        "/etc/selinux/demo/contexts/files/file_contexts": "/etc/(?=\x1b[2J)x u:r:t:s0\n",
        "/etc/ssh/ssh_host_\x1b[2J\nkey": "x",
        **SELINUX,
    }
    _, plan = seen(InMemoryTree(nodes))
    lines = render(plan).split("\n")
    assert not any(line.startswith("1. delete everything") for line in lines)


# --- on a real file system, through the readers of this host --------------------------------------------------------


def image_of(tmp_path: Path, prepare: Mapping[str, bytes | str | Link]) -> Path:
    return make_ext(tmp_path / "image", 64 * MIB, lay_files(tmp_path / "root", prepare))


def test_no_link_leads_to_a_file_of_this_host(tmp_path: Path) -> None:
    up = "../" * 40
    links = {"/etc/fstab": Link(f"{up}etc/passwd"), "/etc/hostname": Link(f"{up}proc/self/environ")}
    facts = inspected(image_of(tmp_path, {**SYSTEM, **links}))
    assert facts.os is not None
    assert facts.os.hostname is None
    assert "root:" not in repr(facts)


def test_a_link_up_and_out_is_a_link_to_the_guests_own_file(tmp_path: Path) -> None:
    own = {**SYSTEM, "/etc/passwd": "the guest's\n", "/etc/fstab": Link("../../../../etc/passwd")}
    facts = inspected(image_of(tmp_path, own))
    assert facts.texts["/etc/fstab"].text == "the guest's\n"
    assert facts.texts["/etc/fstab"].resolved == "/etc/passwd"


def without(path: str) -> dict[str, bytes | str | Link]:
    return {name: node for name, node in SYSTEM.items() if name != path}


def test_pipes_and_devices_in_the_place_of_every_file_are_not_read(tmp_path: Path) -> None:
    root = lay_files(tmp_path / "root", SYSTEM)
    places = [path for path in PLACES if path not in ("/etc/os-release", "/usr/lib/os-release")]
    for number, place in enumerate(places):
        path = root / place.lstrip("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        if number % 2 and os.geteuid() == 0:
            os.mknod(path, 0o20644, os.makedev(1, 5))  # /dev/zero
        else:
            os.mkfifo(path)
    facts = inspected(make_ext(tmp_path / "image", 64 * MIB, root))
    assert facts.os is not None
    assert set(facts.texts) & set(places) == set()
    assert facts.digests == {}


def test_files_of_gigabytes_are_no_configuration(tmp_path: Path) -> None:
    root = lay_files(tmp_path / "root", SYSTEM)
    places = [path for path in PLACES if path not in ("/etc/os-release", "/usr/lib/os-release")]
    for place in places:
        path = root / place.lstrip("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as file:
            file.truncate(2 << 30)
    facts = inspected(make_ext(tmp_path / "image", 64 * MIB, root))
    assert facts.os is not None
    assert set(facts.texts) & set(places) == set()
    assert facts.digests == {}
    plan_guest(facts, EVERYTHING)
