"""What kinds of events there are of a batch: those of the store, and those of a conversion that it understands."""

PAUSED, RESUMED = "paused", "resumed"
ADDED, CHANGED, REMOVED = "added", "changed", "removed"
CLAIMED, RELEASED, AGAIN, DONE, PARKED = "claimed", "released", "again", "done", "parked"
CANCEL_WISHED, CANCELLED, RETRIED = "cancel-wished", "cancelled", "retried"
LET_GO = "let-go"
"""The run that had a job's lease has died: its lease does not hold any longer."""
OWN_KINDS = frozenset(
    (
        PAUSED,
        RESUMED,
        ADDED,
        CHANGED,
        REMOVED,
        CLAIMED,
        RELEASED,
        AGAIN,
        DONE,
        PARKED,
        CANCEL_WISHED,
        CANCELLED,
        RETRIED,
        LET_GO,
    )
)
"""Events that the store writes itself; those of ``PAUSED`` and ``RESUMED`` are of no job (``""``)."""
PHASE_STARTED, BYTES_DONE, PHASE_FINISHED = "phase-started", "bytes-done", "phase-finished"
"""Events of a conversion that change what a job shows, with the fields that ``p2v convert --progress json`` gives them."""
WORKER = "worker"
"""A worker of a cluster has begun the attempt: ``worker``, its address, and ``host``, its host's name."""
FOUND = "an earlier attempt had converted it; its end was not heard"
"""A warning: its result stood there."""
COPY = "copy"
"""The phase whose bytes are counted, and whose place another job may have when it ends."""
