"""The disk a VMDK child (delta) disk holds changes to: what it is called, and whether what was found is it.

VMware's products tell a parent by its CID, which changes whenever it is written, and name its file; VirtualBox tells it by
its UUID and names none.
"""

from __future__ import annotations

from dataclasses import replace

from converters.info import ImageFacts
from converters.layering import chained
from converters.mapped import Layout, MappedDisk
from converters.references import Opening
from converters.source_file import SourceFile, shown
from converters.vmdk_descriptor import Descriptor, content_id_number
from p2v.core.errors import ParentMissing, WrongParent


def with_parent(
    child: Layout, files: tuple[SourceFile, ...], facts: ImageFacts, descriptor: Descriptor, opening: Opening
) -> MappedDisk:
    """The disk of a child's layout over its parent; ``files[0]`` holds the descriptor.

    Raises ParentMissing, WrongParent, and what opening the parent raises; then ``files`` are still the caller's.
    """
    image = files[0]
    parent = _opened(image, descriptor, opening)
    try:
        _check(image, descriptor, parent)
    except BaseException:
        parent.close()
        raise
    if parent.virtual_size != child.virtual_size:
        note = f"it has {child.virtual_size} bytes and its parent {parent.virtual_size}; its own size counts"
        facts = replace(facts, notes=(*facts.notes, note))
    return chained(child, files, facts, parent)


def _opened(image: SourceFile, descriptor: Descriptor, opening: Opening) -> MappedDisk:
    # What stands on a device was written by whoever owns that: it may not name the devices beside it.
    names = [descriptor.parent_name] if descriptor.parent_name and not image.is_block_device else []
    by_uuid = descriptor.parent_content_id is None and descriptor.parent_uuid is not None
    try:
        # Parents of VMware's disks are VMDKs; VirtualBox also puts children over other formats.
        return opening.parent(image, names, None if by_uuid else "vmdk")
    except ParentMissing as error:
        if names or error.file != image.path:
            raise
        what = f"the UUID {shown(descriptor.parent_uuid or '')}" if by_uuid else "the CID " + _cid(descriptor)
        raise ParentMissing(image.path, f"a disk with {what}, whose file it does not name") from error


def _check(image: SourceFile, descriptor: Descriptor, parent: MappedDisk) -> None:
    known = parent.facts.identifiers
    name = parent.sources[0].path.name
    if descriptor.parent_content_id is None and descriptor.parent_uuid is not None:
        if descriptor.parent_uuid not in (value.strip("{}").lower() for _, value in known):
            problem = f"holds changes to the disk with the UUID {shown(descriptor.parent_uuid)}, which {name} is not"
            raise WrongParent(image.path, problem)
        return
    found = dict(known).get("CID", "")
    number = content_id_number(descriptor.values.get("parentcid", ""))
    if number is None or number != content_id_number(found):
        problem = (
            f"was made over a disk with the CID {_cid(descriptor)}, but {name} has the CID {shown(found)}: "
            "it was changed since, or is another disk"
        )
        raise WrongParent(image.path, problem)


def _cid(descriptor: Descriptor) -> str:
    return shown(descriptor.values.get("parentcid", "none"))
