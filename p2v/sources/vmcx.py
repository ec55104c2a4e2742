"""Hyper-V's .vmcx: the configuration of a machine as Windows 10 and Server 2016 and later keep it, in a binary store.

The store (``hyperv_storage``) holds the tree that XML files held before (``hyperv``). It is read by a published description;
no file that Hyper-V itself wrote was at hand, so a machine read from one says so.
"""

from __future__ import annotations

from xml.etree.ElementTree import Element

from p2v.core.errors import BadDescription
from p2v.machine import Machine
from p2v.sources.description import Description
from p2v.sources.draft import Draft
from p2v.sources.hyperv import machine_of, saved_state, say_saved
from p2v.sources.hyperv_storage import is_store, read_store
from p2v.sources.windows_files import WindowsFiles
from p2v.sources.xml_text import child

KIND = "Hyper-V virtual machine (.vmcx)"

_BY_HAND = (
    "Name its disks instead, as in `p2v convert disk.vhdx --cpus N --memory SIZE --firmware uefi --mac ADDRESS`. PowerShell "
    "tells these: Get-VM NAME | Format-List ProcessorCount,MemoryStartup,Generation; Get-VMHardDiskDrive NAME; "
    "Get-VMNetworkAdapter NAME | Format-List MacAddress,SwitchName; Get-VMFirmware NAME (SecureBoot); of an export: "
    "(Compare-VM -Copy -Path FILE.vmcx -GenerateNewId).VM"
)


def recognises(head: bytes) -> bool:
    """Whether a file's first bytes are a store's."""
    return is_store(head)


def read(description: Description) -> Machine:
    """The machine. Raises BadDescription, ForbiddenReference."""
    draft, files = Draft(description, KIND), WindowsFiles(description)
    try:
        store = read_store(description, description.data)
    except BadDescription as error:
        raise description.error(error.problem, _BY_HAND) from error
    root = child(store.root, "configuration")
    if root is None:
        raise description.error("is a store of Hyper-V's without a machine's configuration in it", _BY_HAND)
    draft.warn(
        "vmcx",
        "the .vmcx was read by a published description of the format, not by Microsoft's own program",
        "Compare the plan with `Get-VM NAME | Format-List *` where the machine runs.",
    )
    if store.pending:
        draft.warn(
            "log",
            f"the configuration has {store.pending} changes in its log that are not in it yet; what they change is read as it was",
            "Open it once in Hyper-V, or export the machine again.",
        )
    _saved(draft, files, root)
    return machine_of(draft, files, root)


def _saved(draft: Draft, files: WindowsFiles, root: Element) -> None:
    """Beside a .vmcx is a .vmrs, which holds the memory of a machine that is saved, and little otherwise."""
    saved_state(draft, files, root)
    if draft.blockers:
        return
    wanted = draft.description.path.with_suffix(".vmrs").name.casefold()
    for name in files.names:
        if name.rpartition("/")[2].casefold() == wanted and _holds_memory(draft.description, name):
            say_saved(draft, name.rpartition("/")[2])
            return


def _holds_memory(description: Description, name: str) -> bool:
    data = description.around.read(name)
    # memory is more than any description may have
    if data is None:
        return True
    try:
        saved = child(read_store(description, data).root, "savedstate")
    except BadDescription:
        return False
    return saved is not None and any(each.tag in ("savedVM", "RamMemoryBlock0", "RamBlock0") for each in saved)
