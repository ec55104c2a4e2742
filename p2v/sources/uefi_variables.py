"""The file in which a description's hypervisor keeps the machine's UEFI variables: found, recognised by its contents, read.

edk2's store (libvirt, QEMU, Proxmox VE; VirtualBox until 7, and in a tar since) raw or in qcow2, and VMware's. Other hypervisors'
variables do not travel.
"""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from converters.image import open_disk
from converters.source_file import shown
from p2v.core.errors import ForbiddenReference, P2vError
from p2v.machine import UefiVariable
from p2v.nvram import edk2, vmware
from p2v.nvram.carried import worth_carrying
from p2v.nvram.variables import BadVariables
from p2v.sources.description import archived, opened, read_small
from p2v.sources.draft import Draft

_QCOW2 = b"QFI\xfb"
_TAR, _TAR_AT = b"ustar", 257
# VirtualBox's name for the store among the states of its devices.
_VIRTUALBOX_MEMBER = "efi/nvram"
_HEAD_BYTES = 512


@dataclass(frozen=True, slots=True)
class Nvram:
    """The file, and those of its variables that mean something elsewhere; None and none where there is no file."""

    path: Path | None = None
    variables: tuple[UefiVariable, ...] = ()


def uefi_variables(draft: Draft, *names: str, is_stated: bool = True) -> Nvram:
    """The variables in the first file of these names that is there; what is wrong with them is a warning of the draft's.

    ``is_stated``: the description names the file, so that it is missed where it is not there.
    """
    named = [name for name in names if name.strip()]
    try:
        path = next((path for name in named if (path := draft.description.disk(name)) is not None), None)
    except ForbiddenReference:
        _warn(draft, f"the UEFI variables ({shown(named[0])}) are outside the machine's folder and were not read",
              "Allow their folder with --allow DIR, or copy the file beside the description.")  # fmt: skip
        return Nvram()
    if path is None:
        if named and is_stated:
            _warn(draft, f"the UEFI variables ({shown(named[0])}) are not there; boot entries and keys in them do not travel",
                  "Copy the file beside the description.")  # fmt: skip
        return Nvram()
    try:
        return Nvram(path, worth_carrying(_read(draft, path)))
    except BadVariables as error:
        _warn(draft, f"the file of the UEFI variables {shown(path.name)} {error}; none of them travels")
    except P2vError as error:
        _warn(draft, f"the UEFI variables could not be read ({error.sentence()}); none of them travels")
    return Nvram()


def _warn(draft: Draft, message: str, hint: str = "") -> None:
    draft.warn("variables", message, hint or "The machine starts what lies at its disk's removable path, or with new variables.")


def _read(draft: Draft, path: Path) -> tuple[UefiVariable, ...]:
    with closing(opened(path)) as file:
        head = file.pread(min(_HEAD_BYTES, file.size), 0)
        if not head.startswith(_QCOW2):
            data = file.pread(min(edk2.LARGEST_VOLUME_BYTES, file.size), 0)
    if head.startswith(_QCOW2):
        with open_disk(path, "qcow2", draft.description.lookup) as reader:
            return edk2.read_store(reader.pread(min(edk2.LARGEST_VOLUME_BYTES, reader.virtual_size), 0))
    if vmware.is_nvram(data):
        return vmware.read_nvram(data)
    if data[_TAR_AT : _TAR_AT + len(_TAR)] == _TAR:
        if _VIRTUALBOX_MEMBER not in (archived(path) or ()):
            return ()
        data = read_small(path / _VIRTUALBOX_MEMBER)
    return edk2.read_store(data)
