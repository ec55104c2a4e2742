"""Hardware, QEMU scripts and libvirt definitions."""
