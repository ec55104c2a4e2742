"""The P2V/V2V migration suite: the command line, the pipeline and everything around the two engines."""

__version__ = "0.1.0"
