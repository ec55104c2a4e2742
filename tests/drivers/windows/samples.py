"""Facts of the sample Windows guests."""

from __future__ import annotations

import functools

from drivers.facts import GuestFacts
from drivers.inspection import inspect_confined
from tests.drivers.raw_reader import RawReader
from tests.fixtures.windows import named, windows_disks


@functools.cache
def facts_of_sample(name: str) -> GuestFacts:
    """What inspection says of a sample guest."""
    readers = [RawReader(path) for path in windows_disks(named(name))]
    try:
        return inspect_confined(readers)
    finally:
        for reader in readers:
            reader.close()
