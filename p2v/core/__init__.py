"""What every part stands on: errors, events, units, running programs, scratch space, the disk protocol."""
