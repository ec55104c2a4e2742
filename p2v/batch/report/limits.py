"""How large the page may grow, whatever is put into it. All else is a few kilobytes a machine."""

from p2v.core.units import KIB, MIB

PICTURES_BYTES = 12 * MIB
"""All boot screens together, as PNG; in the page they take a third more."""
PICTURE_BYTES = 1 * MIB
"""One."""
RECORD_BYTES = 32 * MIB
"""A record that is looked into for its boot check."""
WARNINGS = 20
"""Of one machine; the first ones."""
WARNING_LETTERS = 500
ATTEMPTS = 20
"""Of one machine that are told of and drawn; the last ones."""
SPANS = 60
"""Phases of one attempt that are drawn; the last ones."""
KNOWN = 1_000
"""Attempts of one machine, and phases of one attempt, that figures are made of; the last ones."""
MOVES = 10_000
"""Pieces of time in which bytes are counted."""
LETTERS = 1 * KIB
"""Of one message or hint."""
COLUMNS = 24
"""Of a chart over time."""
SLOW = 15
"""Entries below what is slow."""
STEPS = 10
"""Reasons below what to do first."""
STEP_NAMES = 5
"""Machines that are named there for each."""
ADVICE_LETTERS = 300
HOSTS = 200
"""Rows of the table of a cluster's hosts."""
OPEN_MACHINES = 3
"""A page of no more machines than this shows their details opened."""
