"""Tests of the migration suite, and the sample guests they use (``tests.fixtures``)."""
