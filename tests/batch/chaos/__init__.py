"""The chaos test of a batch: everything is killed, stopped and filled up at random; at the end all is as it must be."""
