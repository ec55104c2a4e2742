"""Whole runs of the command line on real guests."""
