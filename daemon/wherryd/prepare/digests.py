"""The missing digests of a request's entries, made in worker threads and kept as they come.

Owns: how entries are cut into pieces of work, how many threads work at once, when digests go into the
queue. Does not own: reading and hashing (``hashing``), which request is next (``stage``).

A killed daemon has lost at most half a GiB's digests of each request; they are made again. The last few of
a request may go into the queue together with what follows from them, which saves a change of its own.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Sequence
from functools import partial
from typing import TypeVar

import anyio
import anyio.to_thread
import msgspec

from wherry.wire.failpoints import failpoint
from wherryd.hashing import Digest, SlowHash, digest_batch, digest_pack
from wherryd.model import Entry, PartSums
from wherryd.together import all_of

#: Bytes hashed in one go: about 35 ms, after which other requests get their turn.
PIECE_BYTES = 64 << 20
#: Bytes hashed before the digests are kept.
KEEP_BYTES = 512 << 20
#: So many digests, of ``PIECE_BYTES`` together, may be left to the caller.
FEW = 32

_BEFORE_SAVE = failpoint("prepare.digests.before-save")
_AFTER_SAVE = failpoint("prepare.digests.after-save")

_T = TypeVar("_T")


class Parts(msgspec.Struct, frozen=True):
    """Which files go in parts, and who keeps what the parts have to be."""

    bytes_of: Callable[[int], int]  # of each part of a file of this size; 0: it goes whole
    keep: Callable[[str, PartSums], Awaitable[None]]  # given the digest of the whole
    with_crc32c: bool = False  # of the whole


Save = Callable[[Sequence[Digest]], Awaitable[None]]


class Hashers:
    """The threads that hash, shared by all requests.

    Args:
        threads: how many work at once; more than there are cores makes nothing faster.
    """

    def __init__(self, threads: int) -> None:
        self._threads = threads
        self._limiter = anyio.CapacityLimiter(threads)

    async def make_digests(
        self,
        entries: Sequence[Entry],
        save: Save,
        count: Callable[[int], None],
        left: list[Digest] | None = None,
        parts: Parts | None = None,
    ) -> dict[str, Digest]:
        """Hash entries that have a source, several at once, and keep the digests.

        Args:
            save: keeps digests durably.
            count: is told of bytes as they are hashed.
            left: takes digests that are not kept, if they are few; the caller keeps them.
            parts: which entries go in parts, whose checksums are made and kept as well.

        Raises ``CaptureError`` (``hashing``) at the first file that is not as it was captured.
        """
        pieces = cut(entries, PIECE_BYTES, parts.bytes_of if parts else lambda _: False)
        keeper = _Keeper(save)
        work = partial(self._work, pieces, keeper, count, parts)
        if len(entries) == 1:
            await work()
        else:
            await all_of(*[work] * self._threads)
        if left is not None and keeper.has_few:
            left += keeper.take()
        else:
            await keeper.flush()
        return keeper.made

    async def digest_pack(self, entries: Sequence[Entry]) -> str:
        """Hash small entries back to back; raises as ``hashing.digest_pack``."""
        return await self._in_thread(partial(digest_pack, entries))

    async def _work(
        self,
        pieces: Iterator[Sequence[Entry]],
        keeper: _Keeper,
        count: Callable[[int], None],
        parts: Parts | None,
    ) -> None:
        for piece in pieces:
            part_bytes = parts.bytes_of(piece[0].size) if parts else 0
            if part_bytes or piece[0].size > PIECE_BYTES:
                digests = [await self._hash_slowly(piece[0], count, parts, part_bytes)]
            else:
                digests = await self._in_thread(partial(digest_batch, piece))
                count(sum(entry.size for entry in piece))
            await keeper.keep(digests)

    async def _hash_slowly(
        self, entry: Entry, count: Callable[[int], None], parts: Parts | None, part_bytes: int
    ) -> Digest:
        with_crc32c = parts is not None and parts.with_crc32c
        opening = partial(SlowHash, entry, part_bytes, with_crc32c=with_crc32c)
        slow = await self._in_thread(opening)
        try:
            while done := await self._in_thread(partial(slow.step, PIECE_BYTES)):
                count(done)
            digest = await self._in_thread(slow.digest)
            if parts and part_bytes:
                await parts.keep(digest[1], PartSums(part_bytes, slow.sums))
            return digest
        finally:
            slow.close()

    async def _in_thread(self, call: Callable[[], _T]) -> _T:
        return await anyio.to_thread.run_sync(call, limiter=self._limiter)


class _Keeper:
    """Gathers digests and saves them in batches."""

    def __init__(self, save: Save) -> None:
        self._save = save
        self._unsaved: list[Digest] = []
        self._unsaved_bytes = 0
        self.made: dict[str, Digest] = {}

    async def keep(self, digests: Sequence[Digest]) -> None:
        self._unsaved.extend(digests)
        self._unsaved_bytes += sum(size for _, _, size in digests)
        if self._unsaved_bytes >= KEEP_BYTES:
            await self.flush()

    @property
    def has_few(self) -> bool:
        return len(self._unsaved) <= FEW and self._unsaved_bytes <= PIECE_BYTES

    async def flush(self) -> None:
        if unsaved := self.take():
            _BEFORE_SAVE()
            await self._save(unsaved)
            _AFTER_SAVE()

    def take(self) -> list[Digest]:
        unsaved, self._unsaved, self._unsaved_bytes = self._unsaved, [], 0
        self.made.update((digest[0], digest) for digest in unsaved)
        return unsaved


def cut(
    entries: Sequence[Entry],
    piece_bytes: int = PIECE_BYTES,
    is_alone: Callable[[int], object] = lambda _: False,
) -> Iterator[Sequence[Entry]]:
    """Cut entries into runs of at most ``piece_bytes``; a larger entry is a run of its own.

    Args:
        is_alone: whether an entry of so many bytes is, though it is smaller.
    """
    piece: list[Entry] = []
    size = 0
    for entry in entries:
        if piece and (
            size + entry.size > piece_bytes or is_alone(entry.size) or is_alone(piece[0].size)
        ):
            yield piece
            piece, size = [], 0
        piece.append(entry)
        size += entry.size
    if piece:
        yield piece
