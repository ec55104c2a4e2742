"""Building the appliance that starts quicker before it is needed, and starting it once.

Apart from the doctor's other questions: this imports guestfs, whose absence is one of their answers.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from drivers.appliance_launch import open_appliance
from drivers.appliance_values import ApplianceDisk
from p2v.core.acceleration import Acceleration
from p2v.core.events import Reporter
from p2v.core.units import MIB
from p2v.quick_appliance import try_again

_BLANK_BYTES = 1 * MIB


def build(answer: Acceleration, report: Reporter) -> None:
    """Build it where it is not built, whatever was found against it before, and start it once.

    Raises what ``open_appliance`` does.
    """
    try_again()
    with tempfile.TemporaryDirectory(prefix="p2v-") as folder:
        blank = Path(folder, "blank")
        with blank.open("wb") as file:
            file.truncate(_BLANK_BYTES)
        with open_appliance([ApplianceDisk(blank, "raw", read_only=False)], answer, report=report):
            pass
