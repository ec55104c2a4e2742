"""What KVM runs: the hardware a result is given, and one module per front end that defines it."""
