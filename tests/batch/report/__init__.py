"""Tests of the batch's page."""
