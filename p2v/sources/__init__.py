"""What other hypervisors write about their machines, read as a Machine: one file a kind of description."""
