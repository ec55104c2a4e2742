"""NUMA nodes, hosts before, findings, and the whole answer as a document."""

from __future__ import annotations

from dataclasses import replace
from datetime import date

from p2v.audit.catalogue_file import catalogue
from p2v.audit.document import AuditDocument
from p2v.audit.sizing.findings import sizing_findings
from p2v.audit.sizing.hosts import hosts_needed, numa_fit
from p2v.audit.sizing.inputs import HostNow, Policy, Prices, SidePrices, SizingInput, Use, hosts_now
from p2v.audit.sizing.size import size
from p2v.audit.sizing.text import sizing_text
from p2v.audit.sizing.values import Basis, Measured, Rate
from p2v.core import jsonio
from p2v.core.units import GIB
from tests.audit.sizing.fleets import HOST, disk, machine

PLAIN = Policy(memory_headroom=0, spare_hosts=0, machine_overhead_bytes=0)


def test_machines_wider_than_a_numa_node_are_named_and_still_placed() -> None:
    given = SizingInput((machine("wide", 9, 4), machine("deep", 2, 33), machine("fits", 8, 30)), HOST, PLAIN)
    fit = numa_fit(given, HOST)
    assert fit is not None
    assert (fit.node_cores, fit.node_memory_bytes) == (8, 32 * GIB)
    assert [each.machine for each in fit.wider] == ["wide", "deep"]
    assert hosts_needed(given, HOST, Basis.CONFIGURED).machines == 3
    assert numa_fit(given, replace(HOST, sockets=1)) is None
    assert numa_fit(given, replace(HOST, sockets=1, numa_nodes=4)) is not None


def test_every_sizing_rule_fires_for_the_machine_it_is_about_and_for_no_other() -> None:
    rules = catalogue()
    fleet = (machine("huge", 99), machine("loose", None), machine("wide", 9), machine("fits"))
    found = {each.rule: each for each in sizing_findings(size(SizingInput(fleet, HOST)), rules)}
    assert {name for name in rules if name.startswith("sizing.")} == set(found)
    assert [each.where for each in found["sizing.fits-no-host"].evidence] == ["huge"]
    assert [each.where for each in found["sizing.not-sized"].evidence] == ["loose"]
    assert [each.where for each in found["sizing.wider-than-node"].evidence] == ["huge", "wide"]
    assert sizing_findings(size(SizingInput((machine("fits"),), HOST)), rules) == ()


def test_hosts_of_an_inventory_give_the_ratio_before() -> None:
    rows = hosts_now([HostNow("a", 10, 64 * GIB), HostNow("b", 10, 64 * GIB), HostNow("a", 10, 64 * GIB)])
    assert hosts_now([HostNow("x", 10**400, -1)]) == (HostNow("x"),)
    # that all have one name takes nothing from the sums
    fleet = tuple(machine("m", 2) for n in range(20))
    sized = size(SizingInput(fleet, HOST, PLAIN, hosts_before=rows))
    assert sized.before is not None
    assert (sized.before.hosts, sized.before.cores, sized.before.vcpus_per_core) == (2, 20, 2.0)
    assert sized.consolidation[0].machines_per_host_before == 10.0
    assert sized.consolidation[0].machines_per_host_after == 20 / sized.hosts[0].total_hosts
    assert sized.consolidation[0].vcpus_per_core_after == 40 / (16 * sized.hosts[0].total_hosts)


def test_a_host_that_tells_no_cores_makes_the_sum_unknown() -> None:
    sized = size(SizingInput((machine("m"),), hosts_before=(HostNow("a", 10, None), HostNow("b"))))
    assert sized.before is not None
    assert (sized.before.hosts, sized.before.cores, sized.before.memory_bytes) == (2, None, None)


def test_without_an_inventory_the_hosts_that_machines_name_count_and_that_is_said() -> None:
    sized = size(SizingInput((machine("a", host="h1"), machine("b", host="h1"), machine("c", host="h2"), machine("d"))))
    assert sized.before is not None
    assert sized.before.hosts == 2
    assert "1 machines which name none" in sized.before.assumptions[0].value
    assert size(SizingInput((machine("d"),))).before is None


def full() -> SizingInput:
    """Everything that sizing can be asked."""
    rate = Rate(2e8, 1e8, 3e8, 5)
    return SizingInput(
        (
            machine("a", disks=(disk(40, 20, 10),), host="h"),
            machine("b", disks=(disk(40, 20, None),)),
            machine("c", 99),
        ),
        HOST,
        utilisation=(Use("a", 2, cpu_percent=10.0),),
        prices=Prices("EUR", SidePrices(kwh=0.3, host_watts=400.0), SidePrices(tb_month=20.0)),
        measured=Measured("/target", 4, rate, rate, ("/fleet/disk.vmdk",), ("a note",)),
    )


def test_a_document_with_its_sizing_comes_back_from_json_as_it_was() -> None:
    document = AuditDocument(date(2026, 11, 26), full().machines, sizing=size(full()))
    conv = jsonio.converter()
    assert jsonio.decode(conv, jsonio.encode(conv, document), AuditDocument) == document


def test_every_number_of_the_text_has_its_assumptions_with_their_sources() -> None:
    lines = sizing_text(size(full()))
    heads = [
        at for at, line in enumerate(lines) if line.startswith(("Hosts", "Larger", "Machines a host", "Time to copy"))
    ]
    assert len(heads) >= 6
    for at in heads:
        following = lines[at + 1 : at + 4]
        assert any(line.endswith(("[default]", "[given]", "[measured]", "[inventory]")) for line in following), lines[
            at
        ]
    assert any("FITS NO HOST: c:" in line for line in lines)


def test_a_name_from_a_guest_cannot_write_to_the_terminal_or_fill_it() -> None:
    fleet = (machine("evil\x1b[2J\nHosts needed: 1", 99), machine("x" * 1_000_000, 99))
    lines = sizing_text(size(SizingInput(fleet, HOST)))
    assert not any("\x1b" in line or "\n" in line for line in lines)
    assert max(len(line) for line in lines) <= 300


def test_of_many_machines_that_fit_nowhere_the_text_names_some_and_counts_the_others() -> None:
    lines = sizing_text(size(SizingInput(tuple(machine(f"m{n}", 99) for n in range(50)), HOST)))
    assert sum("FITS NO HOST: m" in line for line in lines) == 20
    assert any("30 more" in line for line in lines)


def test_without_a_host_type_there_is_storage_and_no_host_and_no_money() -> None:
    sized = size(replace(full(), host=None))
    assert (sized.hosts, sized.savings, sized.numa) == ((), (), None)
    assert sized.storage.disks == 2
    assert any("host type" in note for note in sized.notes)


def test_hosts_for_machines_of_unknown_needs_are_not_none_but_unknown() -> None:
    lines = sizing_text(size(SizingInput((machine("a", None, None), machine("b", None, None)), HOST)))
    assert any("not known: the needs of no machine are known" in line for line in lines)
    assert not any("Hosts needed as configured: 0" in line for line in lines)
    assert [line for line in lines if "not sized: a" in line]
