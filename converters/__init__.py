"""Disk bytes: formats, extents, copying, digests. Knows nothing of guests."""

# The names of our import packages are ordinary words; `p2v` checks this marker and says so when another
# distribution's package of the same name comes first on the path.
P2V_SUITE = "p2v-suite"
