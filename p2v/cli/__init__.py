"""The command line: one file a verb. ``console`` alone prints, ``main`` alone exits."""
