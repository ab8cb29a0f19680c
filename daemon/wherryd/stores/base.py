"""The store interface. Owns: what an adapter must do and which errors it may raise.

Does not own: key names (``registry``), retries of whole requests (the stages), limits.

An adapter sends each conditional put exactly once per call: no layer below it may repeat one
(aiohttp repeats a PUT when a reused connection drops, unless told otherwise). Only what the store has
definitely refused (credentials, a clock set wrong, another region or server) may be signed anew and sent
again.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from typing import Protocol

import msgspec

from wherry.errors import StoreUnavailable
from wherryd.model import PartSums, Upload


class ObjectStat(msgspec.Struct, frozen=True):
    """What a store says of an object."""

    key: str
    size: int  # bytes
    etag: str  # opaque; changes whenever the object does
    modified: float  # the store's clock, seconds since 1970


class Object(msgspec.Struct, frozen=True):
    """A small object, read whole."""

    stat: ObjectStat
    body: bytes


def tell_nobody(_: int) -> None:
    """How many bytes have left is of no interest."""


class Ledger(Protocol):
    """What lasts of a put in parts, so that the next start goes on with it; and room for parts at once."""

    async def sums(self) -> PartSums | None:
        """What the parts have to be, as far as it was kept."""
        ...

    async def keep_sums(self, sums: PartSums) -> None:
        """Keep what the parts have to be."""
        ...

    async def take(self) -> Upload | None:
        """The upload that was begun and not completed."""
        ...

    async def begin(self, name: str, part_bytes: int) -> Upload:
        """Keep that an upload was begun, under the name that the store gave it."""
        ...

    async def note_part(self, upload: Upload, number: int, etag: str) -> None:
        """Keep that the store has a part."""
        ...

    async def forget(self, upload: Upload) -> None:
        """The store has the upload no more."""
        ...

    def take_room(self) -> bool:
        """Take room for one more part at once, if there is some that nobody waits for."""
        ...

    def give_room(self) -> None:
        """Give such room back."""
        ...


class FileBody(msgspec.Struct, frozen=True):
    """Bytes to put that lie in a file on this machine, read in bounded pieces, or in memory."""

    path: str  # "" where they are no file's
    offset: int
    size: int
    sha256: bytes  # 32 bytes; the store checks what arrives against it
    #: Told how many of its bytes have left, from any thread; a try that is repeated begins again at 0.
    told: Callable[[int], None] = tell_nobody
    #: Of a body that may go in parts; without one, what a kill leaves is begun anew.
    ledger: Ledger | None = None
    #: The bytes themselves, where they are no file's.
    data: bytes | None = None


class PackBody(msgspec.Struct, frozen=True):
    """Bytes to put that lie in many small files, back to back, read in bounded pieces."""

    files: tuple[FileBody, ...]
    size: int  # of all of them
    sha256: bytes  # of all of them
    told: Callable[[int], None] = tell_nobody
    #: The same bytes, with what lies back to back in one file as one: so they are read. (): as ``files``.
    stretches: tuple[FileBody, ...] = ()


Body = bytes | FileBody | PackBody


class Found(msgspec.Struct, frozen=True):
    """What was synced, in the store that holds it."""

    witness: bytes | None  # the object that tells this store from others; None: not there
    missing: tuple[str, ...] = ()  # those of the keys that are not there


class Sizes(msgspec.Struct, frozen=True):
    """What was looked at, in the store that holds it."""

    witness: bytes | None  # as in ``Found``
    sizes: dict[str, int]  # bytes of those of the keys that are there


class UploadStat(msgspec.Struct, frozen=True):
    """What a store says of an upload in parts that is under way."""

    key: str
    upload: str  # its name
    begun: float  # the store's clock, seconds since 1970


Sink = Callable[[memoryview], object]
"""Takes pieces of an object, in order, in a thread. The memory is used again once it returns. It raises no
``OSError``, which would be taken for the network's."""


class ObjectMissing(Exception):
    """No object has this key."""


class ObjectExists(Exception):
    """Put-if-absent: there is an object already (412)."""


class EtagMismatch(Exception):
    """Put-if-match: the object changed or is gone (412)."""


class WriteConflict(Exception):
    """Another conditional write of this key is going on (409): nothing is known; try again."""


class OutcomeUnknown(StoreUnavailable):
    """A write got no answer (time-out, reset, 5xx): it may have happened, or may still happen."""

    may_arrive = (
        True  # False: the store itself has said that it failed, and does nothing of it any more
    )


class StepsFailed(OutcomeUnknown):
    """A put of many steps failed though the adapter had repeated the step: not worth another try at once."""


class ConditionalWrites(Protocol):
    """The writes that depend on what is there; errors as those of ``ObjectStore``."""

    async def put_if_absent(self, key: str, body: bytes) -> str:
        """Create and return the ETag. The one write that is durable on return in every store.

        Raises ``ObjectExists``, ``WriteConflict``, ``OutcomeUnknown``.
        """
        ...

    async def put_if_match(self, key: str, body: bytes, etag: str) -> str:
        """Replace the object that has ``etag``; return the new ETag; durable on return.

        Raises ``EtagMismatch``, ``WriteConflict``, ``OutcomeUnknown``.
        """
        ...


class ObjectStore(ConditionalWrites, Protocol):
    """Objects by their keys, which are relative, `/`-separated, without empty segments.

    Every method may raise ``StoreUnavailable``, ``AccessRefused`` and ``StoreMissing`` (``wherry.errors``);
    writes raise ``OutcomeUnknown`` where they may have happened all the same.
    """

    @property
    def address(self) -> str:
        """The store's address, normalized; credentials are no part of it."""
        ...

    async def get(self, key: str) -> Object:
        """Read a small object whole. Raises ``ObjectMissing``."""
        ...

    def stream(self, key: str, offset: int = 0, size: int | None = None) -> AsyncIterator[bytes]:
        """Read ``size`` bytes from ``offset`` (to the end for None) in bounded chunks.

        Raises ``ObjectMissing`` before the first chunk; ``StoreDamaged`` if fewer bytes come.
        """
        ...

    async def stream_to(self, key: str, offset: int, size: int | None, sink: Sink) -> None:
        """Give the same bytes to ``sink``, the fastest way that there is to receive much.

        Raises as ``stream``, and what the sink raises. A call that is cancelled or fails leaves it alone
        from then on.
        """
        ...

    async def head(self, key: str) -> ObjectStat:
        """Raises ``ObjectMissing``."""
        ...

    async def put(self, key: str, body: Body) -> None:
        """Write or replace; safe to repeat. The store has checked the body's checksum on return.

        On a folder the bytes survive a power loss then, the name after ``sync``. A key is either put or
        written by the conditional puts, never by both. Raises ``FileChanged`` (``wherry.errors``) if a
        body's file is gone, too short or not what its digest says, and ``FileUnreadable``; the key is then
        what it was. Raises ``StepsFailed`` where it has been repeated below already.
        """
        ...

    def list(self, prefix: str, start_after: str = "") -> AsyncIterator[ObjectStat]:
        """Objects whose key starts with ``prefix``, in order of the keys' UTF-8 bytes.

        ``prefix`` ends with ``/`` or is empty. ``start_after`` is a whole key.
        """
        ...

    def scan(self, prefix: str) -> AsyncIterator[ObjectStat]:
        """All that ``list`` gives of ``prefix``, each once, in whatever order costs the store least.

        For all of many folders: in order, a server that keeps folders is asked for each of them.
        """
        ...

    def list_folders(self, prefix: str) -> AsyncIterator[str]:
        """The names of the next segments below ``prefix`` that have objects below them.

        In order of the keys below them: by UTF-8 bytes of the name and a ``/``. A folder whose objects
        were all deleted may still be named (SeaweedFS keeps it for a while).
        """
        ...

    async def get_all(self, keys: Sequence[str]) -> dict[str, Object]:
        """Read a few small objects, those that are there, in one and the same store.

        What lies at an address can be exchanged, for another disk or another server, between any two calls.
        A folder is opened once for all of it; an object store is asked for all of it at the same time.
        """
        ...

    async def sync(self, keys: Sequence[str], witness: str) -> Found:
        """Make earlier ``put`` calls of these keys survive a power loss; see where they are.

        In a folder all is synced and seen in one and the same store, as in ``get_all``. Object stores have
        nothing to sync: they read ``witness``, and don't look for the keys.
        """
        ...

    async def sizes(self, keys: Sequence[str], witness: str) -> Sizes:
        """Look at some objects, none of which is read, in one and the same store, as in ``get_all``."""
        ...

    async def delete(self, key: str) -> None:
        """Remove; no error where nothing is there."""
        ...

    async def give_up(self, key: str, upload: str) -> None:
        """Remove the parts of an upload that was begun for ``key``; no error where it is gone."""
        ...

    def list_uploads(self, prefix: str) -> AsyncIterator[UploadStat]:
        """Uploads in parts, neither completed nor given up, of keys that start with ``prefix``."""
        ...

    async def aclose(self) -> None:
        """Give back connections."""
        ...
