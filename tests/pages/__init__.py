"""Tests of what the HTML pages are made of."""
