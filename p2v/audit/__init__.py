"""The audit: what runs on KVM, what does not, and why, before anything is moved. Read-only, with evidence."""
