"""Reading references back, from a server that cuts its answers."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.support.etags import EtagServer, etag, etag_server
from tests.support.resolving import FakeResolver
from tests.unit.stores.helpers import TestClock
from wherry.errors import ReferenceFailed, ReferenceUnavailable
from wherryd.read.references import SMALL_BYTES, TRIES, Piece, ReferenceReader, Wanted
from wherryd.references.base import Seen
from wherryd.references.http import HttpResolver
from wherryd.references.session import Session
from wherryd.references.table import Resolvers

BODY = bytes(range(256)) * (5 * SMALL_BYTES // 256)


@pytest.fixture
async def server() -> AsyncIterator[EtagServer]:
    with etag_server() as made:
        made.files["/big"] = BODY
        yield made


@pytest.fixture
async def resolvers() -> AsyncIterator[Resolvers]:
    clock = TestClock()
    made = Resolvers(clock, {"http": lambda _: HttpResolver(clock, Session())})
    yield made
    await made.aclose()


def wanted(server: EtagServer, start: int = 0) -> Wanted:
    digest = "etag:" + etag(BODY).strip('"')
    return Wanted("d/big", Seen(f"{server.url}/big", "", digest, len(BODY), None), start)


def unknown(server: EtagServer) -> Wanted:
    """What no checksum was told of."""
    return Wanted("d/big", Seen(f"{server.url}/big", "", None, len(BODY), None))


async def read(resolvers: Resolvers, *references: Wanted) -> list[Piece]:
    pieces: list[Piece] = []

    async def send(piece: Piece) -> None:
        pieces.append(piece)

    await ReferenceReader(resolvers, TestClock(), send).read(references, check_only=False)
    return pieces


def content(pieces: list[Piece]) -> bytes:
    assert [piece.path for piece in pieces] == ["d/big"] + [""] * (len(pieces) - 1)
    assert [piece.last for piece in pieces] == [False] * (len(pieces) - 1) + [True]
    assert all(piece.error is None for piece in pieces)
    return b"".join(piece.data for piece in pieces)


async def test_cut_answer_begins_anew(server: EtagServer, resolvers: Resolvers) -> None:
    """A large reference whose answer is cut goes on where it was cut."""
    server.cut_at["/big"] = 3 * SMALL_BYTES
    assert content(await read(resolvers, wanted(server))) == BODY
    assert server.ranges == [f"bytes={3 * SMALL_BYTES}-"]


async def test_reader_gives_the_beginning_again(server: EtagServer, resolvers: Resolvers) -> None:
    """Whoever has the beginning gets the rest, and is told where it begins."""
    pieces = await read(resolvers, wanted(server, start=1000))
    assert pieces[0].start == 1000
    assert content(pieces) == BODY[1000:]


async def test_end_is_asked_for(server: EtagServer, resolvers: Resolvers) -> None:
    """An answer that was cut after its last byte is whole."""
    assert content(await read(resolvers, wanted(server, start=len(BODY)))) == b""
    assert not server.hits


async def test_rest_of_another_file_is_taken(server: EtagServer, resolvers: Resolvers) -> None:
    """What changes while it is read is named, and no byte of the new one is sent."""

    async def send(piece: Piece) -> None:
        server.files["/big"] = BODY[::-1]
        pieces.append(piece)

    pieces: list[Piece] = []
    server.cut_at["/big"] = 2 * SMALL_BYTES
    reader = ReferenceReader(resolvers, TestClock(), send)
    await reader.read([wanted(server)], check_only=False)
    assert isinstance(pieces[-1].error, ReferenceFailed)
    assert "its ETag was" in str(pieces[-1].error)
    assert BODY.startswith(b"".join(piece.data for piece in pieces))


class Cutting(FakeResolver):
    """Gives so many bytes at each try, and then no more for now."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size
        self.starts: list[int] = []

    async def open(self, seen: Seen, start: int = 0) -> AsyncIterator[bytes]:
        self.starts.append(start)
        yield BODY[start : start + self.size]
        if start + self.size < len(BODY):
            raise ReferenceUnavailable("cut")


async def test_unknown_file_goes_on_in_the_middle(server: EtagServer) -> None:
    """Without a checksum nobody knows whether the rest is of the same file: it is told of, not sent."""
    cutting = Cutting(SMALL_BYTES)
    pieces = await read(Resolvers(TestClock(), {"http": lambda _: cutting}), unknown(server))
    assert pieces[-1].error is not None
    assert cutting.starts == [0]


@pytest.mark.parametrize(
    ("size", "tries"),
    [(SMALL_BYTES, len(BODY) // SMALL_BYTES), (10, TRIES)],
    ids=["much", "little"],
)
async def test_cuts_are_counted_otherwise(server: EtagServer, size: int, tries: int) -> None:
    """Who gives much at each try is asked until all is there, who gives little is given up on."""
    cutting = Cutting(size)
    pieces = await read(Resolvers(TestClock(), {"http": lambda _: cutting}), wanted(server))
    assert cutting.starts == [size * number for number in range(tries)]
    assert (pieces[-1].error is None) == (size == SMALL_BYTES)
