"""Inside the guest: facts, plans and their application. Knows nothing of disk formats."""

# See converters/__init__.py.
P2V_SUITE = "p2v-suite"
