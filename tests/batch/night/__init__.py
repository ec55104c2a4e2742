"""docs/batch-night.md under a real systemd: a machine of namespaces, on this host's programs, is started for it (`make matrix`)."""
