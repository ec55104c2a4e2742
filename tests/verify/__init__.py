"""The boot check."""
