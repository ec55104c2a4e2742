"""Inventory exports: machines known by a row of a table, with nobody having looked inside."""
