"""Guests that are never written to: what they are, and hardware such a system knows."""
