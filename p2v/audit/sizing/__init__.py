"""Sizing: hosts, storage, time and money for a fleet, each number with what it rests on (docs/audit-sizing.md)."""
