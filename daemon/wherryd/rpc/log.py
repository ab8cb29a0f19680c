"""``Log``, ``LogMany`` and ``Link``: requests come in.

Owns: the order of a stream's messages, and the digest of what it asks. Does not own: what a request
needs before it is durable (``capture.intake``).
"""

from __future__ import annotations

import hashlib
from collections.abc import AsyncGenerator, AsyncIterator, Iterable
from contextlib import aclosing
from typing import TypeAlias

from wherry.errors import ProtocolError
from wherry.wire import wherry_pb2 as pb
from wherry.wire.names import check_alias, check_path
from wherry.wire.room import Room
from wherryd.capture.intake import Intake, Stream
from wherryd.life import Life
from wherryd.log import get_logger
from wherryd.queue.base import Queue
from wherryd.rpc.messages import entry_of, header_of, lookup_of, run_of

_log = get_logger("rpc")


class LogCalls:
    """The calls.

    Args:
        default_store: for clients that name none.
    """

    def __init__(self, intake: Intake, queue: Queue, life: Life, default_store: str) -> None:
        self._intake = intake
        self._queue = queue
        self._life = life
        self._default_store = default_store

    async def log(self, messages: AsyncIterator[pb.LogMessage]) -> pb.LogReply:
        """Make one request durable; the answer is the promise."""
        self._note_request()
        first = await anext(messages, None) or pb.LogMessage()
        match first.WhichOneof("part"):
            case "header":
                return await self._take_in(first.header, _parts(messages))
            case "whole":
                return await self._take_in(first.whole.header, _parts_of(first.whole))
            case _:
                raise ProtocolError("a Log stream begins with its header")

    async def log_whole(self, whole: pb.LogWhole) -> pb.LogReply:
        """The same for one of ``LogMany``."""
        self._note_request()
        return await self._take_in(whole.header, _parts_of(whole))

    async def link(self, request: pb.LinkRequest) -> pb.LinkReply:
        """Link a further run to a request."""
        aliases = [check_alias(alias) for alias in request.aliases if alias not in ("", "latest")]
        run = run_of(request.run)
        await self._queue.link(request.request_id, run, aliases, request.run.project)
        return pb.LinkReply()

    def _note_request(self) -> None:
        self._life.check_staying()
        self._life.note_request()

    async def _take_in(self, asked: pb.LogHeader, parts: AsyncGenerator[_Part]) -> pb.LogReply:
        header = header_of(asked, self._default_store)
        body = _Body(asked)
        async with self._intake.receive(header) as stream:
            end = await _take_entries(parts, stream, body)
            spooled = Room(max(0, end.spooled_bytes), max(0, end.spooled_files))
            accepted = await stream.end(
                end.entries, body.digest(), end.lookups, spooled, end.removed
            )
        if not accepted.again:
            _log.debug(
                "request accepted", request=header.id, name=header.lane.name, entries=end.entries
            )
        return pb.LogReply(request_id=header.id, place=accepted.place or 0)


_Part: TypeAlias = pb.EntryBatch | pb.LookupBatch | pb.PathBatch | pb.LogEnd | None


async def _parts(messages: AsyncIterator[pb.LogMessage]) -> AsyncGenerator[_Part]:
    """What follows a header, message by message; None for what may not."""
    async for message in messages:
        match message.WhichOneof("part"):
            case "entries":
                yield message.entries
            case "lookups":
                yield message.lookups
            case "removed":
                yield message.removed
            case "end":
                yield message.end
            case _:
                yield None


async def _parts_of(whole: pb.LogWhole) -> AsyncGenerator[_Part]:
    """The same of what came in one message."""
    yield whole.entries
    if whole.HasField("lookups"):
        yield whole.lookups
    if whole.HasField("removed"):
        yield whole.removed
    yield whole.end


async def _take_entries(parts: AsyncGenerator[_Part], stream: Stream, body: _Body) -> pb.LogEnd:
    """Take batches up to the end, which says how much the client has sent."""
    async with aclosing(parts):  # else the loop would do it, with a task for each request
        async for part in parts:
            match part:
                case pb.EntryBatch(entries=entries):
                    body.add(entry.SerializeToString(deterministic=True) for entry in entries)
                    await stream.add(entry_of(entry, stream.place_of) for entry in entries)
                case pb.LookupBatch(lookups=lookups):
                    body.add(lookup.SerializeToString(deterministic=True) for lookup in lookups)
                    await stream.add_lookups(map(lookup_of, lookups))
                case pb.PathBatch(paths=paths):
                    body.add(path.encode() for path in paths)
                    await stream.remove(map(check_path, paths))
                case pb.LogEnd():
                    return part
                case None:
                    raise ProtocolError("a Log stream goes on with its entries, lookups and end")
    raise ProtocolError("a Log stream was cut before its end")


class _Body:
    """What is asked, whichever way it is cut into messages and wherever the bytes were captured."""

    def __init__(self, header: pb.LogHeader) -> None:
        asked = pb.LogHeader()
        asked.CopyFrom(header)
        for field in ("session", "folder", "client"):
            asked.ClearField(field)
        self._sha256 = hashlib.sha256()
        self.add([asked.SerializeToString(deterministic=True)])

    def add(self, parts: Iterable[bytes]) -> None:
        for part in parts:
            self._sha256.update(len(part).to_bytes(8, "big") + part)

    def digest(self) -> bytes:
        return self._sha256.digest()
