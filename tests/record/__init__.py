"""The conversion record: its file, its checks, its signature, the bundle."""
