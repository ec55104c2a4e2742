"""Conversions on many hosts through dask.distributed: a starter of children for ``p2v.batch.runner`` that starts them elsewhere.

Only the runner's host has the store, and only the runner claims jobs. A worker gets one job with one fencing number, tells what
happens, and forgets it. Nothing of Dask is imported before a cluster is opened: it is an extra.
"""

from p2v.batch.cluster.address import Address, Certificates, parse_address
from p2v.batch.cluster.opening import open_engine, open_visit
from p2v.batch.cluster.placing import ClusterWish, Storage, parse_storage

__all__ = ["Address", "Certificates", "ClusterWish", "Storage", "open_engine", "open_visit", "parse_address", "parse_storage"]
