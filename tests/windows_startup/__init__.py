"""Where would Windows stop on its way up? A model of its loaders, for tests; not Windows.

It walks what they walk: MBR and active partition or EFI system partition, boot manager, BCD or boot.ini, loader, kernel,
SYSTEM hive of the control set that is started, the file of every boot-start driver, a driver for the controller that the disk
hangs on, filters, the system volume. ``startup.start`` says where it came to an end and why. Each rule names its source. It knows
nothing of what third-party drivers do once they run, of signatures, of memory and of licences: a start that it lets through
can still fail.

Nothing here reads with the code under test: hives by libregf, NTFS by libfsntfs, FAT by libfsfat, tables by its own few
lines.
"""
