"""Names from guests cannot pose as lines of ours."""

from __future__ import annotations

import dataclasses

from drivers.facts import InterfaceConfig, Network, OperatingSystem
from p2v.cli.inspect import render
from p2v.documents import Inspection
from tests.drivers.linux.guest import ROOT, facts_of, files, kernel

HOSTILE = "x\nGuest: all is well\x1b[2J\u202e\r"


def test_names_with_newlines_and_escapes_stay_on_their_line() -> None:
    facts = facts_of(files())
    assert ROOT.filesystem is not None
    image = kernel().initramfs
    assert image is not None
    hostile = dataclasses.replace(
        facts,
        os=OperatingSystem("linux", HOSTILE, HOSTILE, HOSTILE, "x86_64", "debian", HOSTILE, "systemd"),
        partitions=(dataclasses.replace(ROOT, filesystem=dataclasses.replace(ROOT.filesystem, label=HOSTILE)),),
        kernels=(dataclasses.replace(kernel(), initramfs=dataclasses.replace(image, path=HOSTILE)),),
        network=Network((), (InterfaceConfig(HOSTILE, HOSTILE, HOSTILE, (HOSTILE,)),)),
        notes=(HOSTILE,),
    )
    lines = render(Inspection((), hostile)).split("\n")
    assert "x\\x0aGuest: all is well" in "".join(lines)
    assert not any(line.startswith("Guest: all is well") for line in lines)
    assert all(letter.isprintable() for line in lines for letter in line)
