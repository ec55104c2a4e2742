"""Software of other machines in a guest: recognised, and kept from starting.

Units of systemd are masked; services of other inits are turned off as ``services`` says. No package manager is run: the
packages stay, and can be removed in the guest when it runs on KVM.
"""

from __future__ import annotations

import posixpath
from collections.abc import Collection, Iterator, Mapping

from drivers.changes import Change
from drivers.facts import GuestFacts, Tool
from drivers.linux import paths, services
from drivers.linux.contribution import Contribution
from drivers.linux.desired import linked
from drivers.linux.packages import installed_packages
from drivers.linux.tool_catalogue import AGENT, KEPT_VENDORS, KNOWN, Known
from drivers.plan import Finding, PlanOptions
from drivers.systems import parse_assignments
from drivers.tree import FileType, GuestTree

SYSTEM_UNITS = "/etc/systemd/system"
UNIT_FOLDERS = (SYSTEM_UNITS, "/usr/lib/systemd/system", "/lib/systemd/system")
MASK = "/dev/null"


def find_tools(tree: GuestTree, links: Mapping[str, str]) -> tuple[Tool, ...]:
    """The tools that are installed, in the order of ``KNOWN``; a unit's other names (aliases) are units too.

    ``links``: those by which services start, among others (``collect_texts``).
    """
    installed = installed_packages(tree)
    units = frozenset(name for folder in UNIT_FOLDERS for name in tree.list(folder))
    scripts = frozenset(name for folder in services.INIT_SCRIPTS for name in tree.list(folder))
    started = services.started(links, _upstart_jobs(tree))
    tools = []
    for known in KNOWN:
        evidence = _evidence(tree, known, installed)
        if evidence and _needs_its_machine(tree, known):
            found = [unit for unit in known.units if unit in units and _may_start(tree, unit)]
            # systemd makes a unit of a SysV script, and a mask keeps it from that
            found += [
                unit
                for service in known.services
                if service in scripts and (unit := f"{service}.service") not in found and _state(tree, unit) is not True
            ]
            starting = tuple(service for service in known.services if service in started)
            tools.append(Tool(known.name, known.vendor, evidence, tuple(found), starting))
    return tuple(tools)


def unit_names() -> frozenset[str]:
    """Names of units that may be masked."""
    return frozenset(name for known in KNOWN for name in (*known.units, *(f"{s}.service" for s in known.services)))


def service_names() -> frozenset[str]:
    """Names of services that may be turned off."""
    return frozenset(name for known in KNOWN for name in known.services)


def unit_paths(tree: GuestTree) -> tuple[str, ...]:
    """Where something stands already at the place of a mask."""
    known = unit_names()
    return tuple(f"{SYSTEM_UNITS}/{name}" for name in tree.list(SYSTEM_UNITS) if name in known)


def contribute(facts: GuestFacts) -> Contribution:
    """Nothing of another machine starts any more; a word about the agent that would belong on KVM."""
    changes: list[Change] = []
    warnings: list[Finding] = []
    init = facts.os.init if facts.os is not None else ""
    for tool in facts.tools:
        if tool.vendor in KEPT_VENDORS:
            continue
        why = f"{tool.name} serves a {tool.vendor} machine and has nothing to talk to on KVM"
        if init in ("", "systemd"):
            changes += _masks_of(facts, tool, why)
            warnings += _own_units(facts, tool)
        elif init in services.INITS:
            for name in tool.services:
                changes += services.turned_off(facts, name, why)
            warnings += _jobs_left(facts, tool)
        else:
            warnings.append(_left(tool, f"how {init} is told to leave it is not known"))
    return Contribution(tuple(changes), tuple(warnings))


def missing_agent(facts: GuestFacts, options: PlanOptions) -> Contribution:
    """What the guest lacks for its host to shut it down and freeze its file systems in order."""
    if options.install_agent or options.agent_packages or any(tool.name == AGENT for tool in facts.tools):
        return Contribution()
    message = f"{AGENT} is not installed: the host can neither tell the guest's addresses nor freeze its file systems"
    hint = f"Give --install-agent, or install {AGENT} in the converted guest."
    return Contribution(warnings=(Finding("linux.agent-missing", message, hint),))


def _masks_of(facts: GuestFacts, tool: Tool, why: str) -> Iterator[Change]:
    for unit in tool.units:
        path = f"{SYSTEM_UNITS}/{unit}"
        if path not in facts.texts:
            yield from linked(facts, path, MASK, why)


def _own_units(facts: GuestFacts, tool: Tool) -> Iterator[Finding]:
    for unit in tool.units:
        path = f"{SYSTEM_UNITS}/{unit}"
        if path in facts.texts:
            yield _left(tool, f"{path} is the guest's own file, so {unit} is not turned off")


def _jobs_left(facts: GuestFacts, tool: Tool) -> Iterator[Finding]:
    for name in tool.services:
        job = f"{services.UPSTART_JOBS}/{name}.conf"
        if (
            job in facts.texts
            and facts.os is not None
            and facts.os.init == "upstart"
            and not services.overrides_work(facts)
        ):
            yield _left(tool, f"this guest's Upstart can only be told by editing {job}")


def _left(tool: Tool, why: str) -> Finding:
    return Finding("linux.tools.left", f"{tool.name} stays active: {why}", "Remove it in the converted guest.")


def _evidence(tree: GuestTree, known: Known, installed: Collection[str]) -> str:
    names = (*known.packages, *known.other_packages)
    package = next((f"package {name}" for name in names if name in installed), "")
    return package or next((f"file {path}" for path in known.files if tree.exists(path)), "")


def _needs_its_machine(tree: GuestTree, known: Known) -> bool:
    if known.only_if is None:
        return True
    path, variable, harmless = known.only_if
    file = paths.read_text(tree, path)
    return parse_assignments(file.text if file else "").get(variable, "") not in harmless


def _upstart_jobs(tree: GuestTree) -> frozenset[str]:
    jobs = (name.removesuffix(".conf") for name in tree.list(services.UPSTART_JOBS) if name.endswith(".conf"))
    return service_names() & frozenset(jobs)


def _may_start(tree: GuestTree, unit: str) -> bool:
    """Whether a unit is there and not masked already (a link to /dev/null, or an empty file)."""
    return _state(tree, unit) is False


def _state(tree: GuestTree, unit: str) -> bool | None:
    """Whether a unit is masked; None when there is no such unit."""
    return next((masked for folder in UNIT_FOLDERS for masked in _masks(tree, posixpath.join(folder, unit))), None)


def _masks(tree: GuestTree, path: str) -> Iterator[bool]:
    """Whether the unit file at a path is a mask; nothing when there is none."""
    try:
        stat = tree.lstat(path)
    except FileNotFoundError:
        return
    if stat.type is FileType.SYMLINK:
        target = tree.readlink(path)
        if target == MASK or paths.resolve(tree, path) is not None:
            yield target == MASK
    elif stat.type is FileType.FILE:
        yield stat.size == 0
