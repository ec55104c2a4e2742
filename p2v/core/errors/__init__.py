"""Every error a user can meet: facts in fields, one sentence, a hint, an exit code on the class.

Only ``p2v.cli`` prints them and exits. Engines raise the most exact class below; a new kind of failure
is a new class here, not a new text. Exit codes follow sysexits where it has one (DESIGN.md section 5).
"""

from p2v.core.errors.batch import (
    BadManifest,
    BadStore,
    LeaseLost,
    Mistake,
    NoSuchJob,
    RunElsewhere,
    StoreBusy,
    StoreElsewhere,
)
from p2v.core.errors.cluster import ClusterGone, ClusterRefused
from p2v.core.errors.guests import Blocked, GuestNotUnderstood, PlanStale, ReaderCrashed
from p2v.core.errors.images import (
    AmbiguousFormat,
    BadDescription,
    BadImage,
    ForbiddenReference,
    NoKnownFormat,
    ParentMissing,
    UnsupportedImage,
    WrongParent,
)
from p2v.core.errors.in_place import BadJournal, DiskInUse, Interrupted, NotCommitted, NotInPlace, UsedSince
from p2v.core.errors.root import NotPermitted, P2vError, ProgramFailed, ProgramTimedOut, ToolMissing, Usage
from p2v.core.errors.sources import (
    BadSectors,
    NoSource,
    NotHeldStill,
    ReadFailed,
    SourceFailing,
    SourceGone,
    SourceInUse,
    Unreadable,
)
from p2v.core.errors.targets import (
    BadTarget,
    DeviceInUse,
    DeviceNotEmpty,
    NoSpace,
    TargetBusy,
    TargetExists,
    UnfitDevice,
)

__all__ = [
    "AmbiguousFormat",
    "BadDescription",
    "BadImage",
    "BadJournal",
    "BadManifest",
    "BadSectors",
    "BadStore",
    "BadTarget",
    "Blocked",
    "ClusterGone",
    "ClusterRefused",
    "DeviceInUse",
    "DeviceNotEmpty",
    "DiskInUse",
    "ForbiddenReference",
    "GuestNotUnderstood",
    "Interrupted",
    "LeaseLost",
    "Mistake",
    "NoKnownFormat",
    "NoSource",
    "NoSpace",
    "NoSuchJob",
    "NotCommitted",
    "NotHeldStill",
    "NotInPlace",
    "NotPermitted",
    "P2vError",
    "ParentMissing",
    "PlanStale",
    "ProgramFailed",
    "ProgramTimedOut",
    "ReadFailed",
    "ReaderCrashed",
    "RunElsewhere",
    "SourceFailing",
    "SourceGone",
    "SourceInUse",
    "StoreBusy",
    "StoreElsewhere",
    "TargetBusy",
    "TargetExists",
    "ToolMissing",
    "UnfitDevice",
    "Unreadable",
    "UnsupportedImage",
    "Usage",
    "UsedSince",
    "WrongParent",
]
