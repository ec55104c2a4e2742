"""Which bytes of a disk need not travel: what file systems, volume groups and swap areas know to be free.

``unused.find_unused`` is the door. Each kind has a module that hands out what is free of a ``Volume``, or raises
``NotUnderstood``: then the whole of it travels. A byte that is copied for nothing costs a moment; one that is left
out and was needed cannot be had back, so every doubt is decided that way.
"""
