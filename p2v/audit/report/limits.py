"""How large a report may grow, whatever is put into it.

Plans and findings have a budget each. A machine that would take more than its fair share of one is cut there, and the report says
so; what is below the share stays whole. Everything else is a few kilobytes a machine.
"""

from __future__ import annotations

from p2v.core.units import KIB, MIB

PLANS_LETTERS = 16 * MIB
"""All plans together."""
PLAN_LETTERS = 256 * KIB
"""One plan."""
FINDINGS_LETTERS = 32 * MIB
"""The markup of all machines' findings together."""
MACHINE_FINDINGS_LETTERS = 512 * KIB
"""That of one machine's."""
RULE_FINDINGS = 50
"""Of one rule for one machine."""
EVIDENCE_PIECES = 20
"""Of one finding."""
EVIDENCE_LETTERS = 500
"""Of one piece, both where it is and what stands there."""
CHAIN_LINKS = 60
NAMED_MACHINES = 100
"""That one rule lists by name."""
OPEN_MACHINES = 5
"""A report of no more machines than this shows their details opened."""
