"""Tests of the formats for programs."""
