"""An appliance of this host's own packages that starts in half the time of the one that libguestfs builds.

See docs/appliance.md. Nothing here imports guestfs: it is handed what it has to know of it.
"""
