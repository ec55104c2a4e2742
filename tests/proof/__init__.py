"""Tests of the proof: every kind of corruption is found and named."""
