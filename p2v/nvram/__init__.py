"""UEFI variables of virtual machines: read from the files hypervisors keep them in, written into a firmware's own template."""
