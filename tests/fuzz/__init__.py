"""Fuzzing the readers: ``make fuzz``; see docs/formats/fuzzing.md."""
