"""The audit's own rules, one file a subject; what planning finds is taken from the plan."""
