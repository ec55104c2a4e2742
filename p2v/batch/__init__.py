"""Batch conversion: a fleet overnight, each machine once, nothing lost."""
