"""The errors of Wherry: one tree, shared by the client and the daemon.

Every message says what happened, to what, and what to do. Foreign exceptions (sqlite3, botocore,
aiohttp, grpc, OSError) stop at the adapter that meets them.

    WherryError
    ├── UsageError (ValueError)             what the program asked for can't be
    │   ├── BadName, BadPath, BadMetadata, PathTaken, TypeTaken, BadSetting, BadURI, BadTable
    │   └── MissingDistributedId (TypeError)
    ├── BadValue (TypeError)                a table, or an artifact, takes no such thing
    ├── LibraryMissing (ImportError)        what a call needs, and Wherry does not bring
    ├── ArtifactStateError
    │   ├── ArtifactNotLoggedError          ask after wait()
    │   ├── ArtifactFinalizedError          logged already
    │   └── Offline
    ├── CaptureError
    │   ├── FileMissing (FileNotFoundError), FileUnreadable, NotAFile, FileChanged, SpoolFull
    ├── DownloadError                       a file can't be written where the user wants it
    ├── NotAsLogged (ValueError)            files on this machine differ from the version
    ├── CommError                           between client and daemon; W&B's name for both of these
    │   ├── DaemonMissing, DaemonNotStarted, DaemonTooOld, DaemonLeaving, ProtocolError
    │   └── NotFoundError (LookupError)     no such artifact, version, alias
    │       └── EntryMissing (KeyError, FileNotFoundError)
    ├── WaitTimeoutError (TimeoutError)
    ├── RequestFailed                       a request ended without a version
    │   └── Cancelled, ReferenceFailed, DraftFinished, DraftConflict
    ├── ReferenceUnavailable                a reference's server, now; the daemon tries again
    ├── UpsertsPending                      a finish waits for upserts; it goes on by itself
    ├── NotCommitted                        the end of a script
    │   └── UpsertNotVisible
    ├── QueueError
    │   ├── QueueTooNew, QueueDamaged, QueueLocked, RequestIdTaken
    ├── StoreError                          concerns the store; the daemon tries again
    │   ├── StoreUnavailable                network, 5xx, 429, time-out
    │   ├── AccessRefused, StoreMissing, StoreChanged, StoreUnfit, StoreTaken, StoreDamaged
    ├── Defect                              something in Wherry is broken; please report it
    └── NotYet (NotImplementedError)        not built yet
"""

from __future__ import annotations


class WherryError(Exception):
    """Base of every error that Wherry raises.

    ``hint`` is what to do now; it is part of ``str(error)``, on a line of its own.
    """

    def __init__(self, message: str = "", *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}\n  {self.hint}" if self.hint else self.message


class UsageError(WherryError, ValueError):
    """What the program asked for can't be; asking again will not help."""


class BadName(UsageError):
    """A name of an artifact, alias, project, type, run or group is out of range."""


class BadPath(UsageError):
    """A path inside an artifact is not a relative POSIX path."""


class BadMetadata(UsageError):
    """Metadata is not JSON, or over 1 MiB."""


class BadSetting(UsageError):
    """A setting has a value that can't be used."""


class BadURI(UsageError):
    """A reference's or a store's URI can't be understood."""


class PathTaken(UsageError):
    """Another file was added under this path before."""


class TypeTaken(UsageError):
    """The artifact's name belongs to another type."""


class MissingDistributedId(WherryError, TypeError):
    """An upsert or finish has neither a group nor a distributed id."""


class BadTable(UsageError):
    """A table's columns and rows don't fit each other, or a file is no table."""


class BadValue(WherryError, TypeError):
    """A value is of another type than its column's, or nothing that a table or an artifact takes."""


class LibraryMissing(WherryError, ImportError):
    """A call needs a library that is not installed."""

    __str__ = WherryError.__str__


class Defect(WherryError):
    """Something in Wherry is broken; please report it. The daemon tries again, and does the rest."""


class NotYet(WherryError, NotImplementedError):
    """Part of the surface that is not built yet."""


class ArtifactStateError(WherryError):
    """The artifact is not in the state that the call needs."""


class ArtifactNotLoggedError(ArtifactStateError):
    """The artifact has no version yet."""


class ArtifactFinalizedError(ArtifactStateError):
    """The artifact was logged and can't be changed any more."""


class Offline(ArtifactStateError):
    """Offline mode holds what the call needs."""


class CaptureError(WherryError):
    """A file could not be made safe."""


class FileMissing(CaptureError, FileNotFoundError):
    """There is no such file or folder."""

    # OSError's own __str__ would print errno and filename, which are not set here.
    __str__ = WherryError.__str__


class FileUnreadable(CaptureError):
    """The file is there and can't be read."""


class NotAFile(CaptureError, ValueError):
    """A folder, FIFO, socket or device where a regular file is wanted, or the other way round."""


class FileChanged(CaptureError):
    """The file changed or vanished while it was captured, or after an ``immutable`` capture."""


class SpoolFull(CaptureError):
    """There is no room in the spool: the disk or the quota is full."""


class DownloadError(WherryError):
    """A file can't be written where the user wants it."""


class NotAsLogged(WherryError, ValueError):
    """Files on this machine are not what the version has."""


class CommError(WherryError):
    """Client and daemon can't talk to each other."""


class DaemonMissing(CommError):
    """The daemon's packages are not installed."""


class DaemonNotStarted(CommError):
    """The daemon could not be started, or did not answer in time."""


class DaemonTooOld(CommError):
    """A busy daemon is older than the client."""


class DaemonLeaving(CommError):
    """The daemon is about to end and takes no new requests; the next one will."""


class ProtocolError(CommError):
    """The other side said something that the protocol does not allow."""


class WaitTimeoutError(WherryError, TimeoutError):
    """The time given to wait is over; the work goes on."""

    __str__ = WherryError.__str__


class RequestFailed(WherryError):
    """A request ended without a version."""


class Cancelled(RequestFailed):
    """The request was taken back by ``wherry cancel``."""


class DraftFinished(RequestFailed):
    """It came to a draft that is a version already: use another ``distributed_id``."""


class DraftConflict(RequestFailed):
    """Two runs have put other bytes at the same path of a draft."""


class UpsertsPending(WherryError):
    """A finish waits until what this machine has upserted before it is in the draft."""


class NotCommitted(WherryError):
    """The script ends in a home that may not outlive it, with artifacts that are not committed."""


class UpsertNotVisible(NotCommitted):
    """The run's upserts are not in their drafts, and others may rely on them."""


class NotFoundError(CommError, LookupError):
    """No such artifact, version, alias or entry.

    W&B's programs look for a checkpoint by ``except CommError``, and begin anew where there is none.
    """


class EntryMissing(NotFoundError, KeyError, FileNotFoundError):
    """The artifact has no entry of this path."""

    __str__ = WherryError.__str__


class QueueError(WherryError):
    """The daemon's queue can't be used."""


class QueueTooNew(QueueError):
    """The queue was written by a newer version of Wherry."""


class QueueDamaged(QueueError):
    """The queue's database is damaged and was set aside."""


class QueueLocked(QueueError):
    """Another program holds the queue's database."""


class RequestIdTaken(QueueError, ValueError):
    """A request id was seen before with another body."""


class StoreError(WherryError):
    """Something concerns the store and may succeed later: the daemon waits and tries again."""

    retry_after_s: float = 0.0  # asking sooner is no use; 0: nobody knows


class StoreUnavailable(StoreError):
    """The store does not answer, or answers that it can't (network, 5xx, 429, time-out)."""


class AccessRefused(StoreError):
    """The store refuses the credentials, or the folder can't be written.

    Args:
        codes: what an S3 server said to each set of credentials, by its error codes ("" where it gave
            none); None for a set that led to no keys, and for the try without any.
    """

    def __init__(
        self,
        message: str = "",
        *,
        hint: str | None = None,
        codes: tuple[str | None, ...] = (),
    ) -> None:
        super().__init__(message, hint=hint)
        self.codes = codes


class StoreMissing(StoreError):
    """The bucket or the folder is not there."""


class StoreChanged(StoreError):
    """The store is not what it was: emptied, put back from a backup, or another one."""


class StoreUnfit(StoreError):
    """The store does not do what a store must, such as conditional writes."""


class StoreTaken(StoreError):
    """Another home writes to the store, which has room for a single writer (``?commit=single-writer``)."""


class StoreDamaged(StoreError):
    """An object in the store is not what its name or its record says."""


class ReferenceFailed(RequestFailed):
    """A reference could not be resolved."""


class ReferenceUnavailable(WherryError):
    """The server of a reference gives no answer now; another try may go better.

    Args:
        host: whom to leave alone meanwhile, as users know it.
        retry_after_s: how long the server asks to be left alone (RFC 9110 section 10.2.3).
        unknown_name: there is no host of that name, which a few more tries decide.
        was_asked: False where the host was left alone, for what it answered to others.
    """

    def __init__(
        self,
        message: str,
        *,
        hint: str | None = None,
        host: str = "",
        retry_after_s: float | None = None,
        unknown_name: bool = False,
        was_asked: bool = True,
    ) -> None:
        super().__init__(message, hint=hint)
        self.host = host
        self.retry_after_s = retry_after_s
        self.unknown_name = unknown_name
        self.was_asked = was_asked


#: Class by name, as the trailing metadata ``wherry-error`` and the queue's rows have it.
#: W&B's name.
Error = WherryError

BY_NAME: dict[str, type[WherryError]] = {
    cls.__name__: cls
    for cls in list(globals().values())
    if isinstance(cls, type) and issubclass(cls, WherryError)
}


def from_wire(name: str, message: str) -> WherryError:
    """Make the error that the other side named.

    Args:
        name: a class of this module; an unknown one gives a plain ``WherryError``.
        message: ``str(error)`` there; a hint is its last line, indented by two spaces.
    """
    text, _, hint = message.partition("\n  ")
    return BY_NAME.get(name, WherryError)(text, hint=hint or None)
