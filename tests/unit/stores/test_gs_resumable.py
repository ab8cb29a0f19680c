"""Big files in sessions, when something goes wrong on the way."""

from __future__ import annotations

import hashlib
import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import msgspec
import pytest
from aiohttp import web

from tests.support.google import Cut, Google, Refuse
from tests.unit.stores.helpers import MemoryLedger, TestClock
from wherry.errors import AccessRefused, FileChanged, StoreMissing, WherryError
from wherryd.model import PartSums, Upload
from wherryd.stores.base import FileBody, ObjectMissing, OutcomeUnknown, StepsFailed
from wherryd.stores.gs import resumable
from wherryd.stores.gs.store import GsStore
from wherryd.stores.parts import crc32c_in
from wherryd.stores.retry import RetryingStore

QUANTUM = 256 << 10
PART = 2 * QUANTUM
SIZE = 4 * PART + 12_345


@pytest.fixture(autouse=True)
def _small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Parts of 512 KiB, so that a file of five is small."""
    monkeypatch.setattr("wherryd.stores.gs.store.SINGLE_PUT_BYTES", PART)
    monkeypatch.setattr(resumable, "PART_BYTES", PART)


@pytest.fixture
def body(tmp_path: Path) -> FileBody:
    """A file of five parts, after some bytes that are no part of it."""
    content = os.urandom(SIZE)
    (tmp_path / "file").write_bytes(b"before" + content + b"after")
    digest = hashlib.sha256(content).digest()
    return FileBody(path=str(tmp_path / "file"), offset=6, size=SIZE, sha256=digest)


@pytest.fixture
def ledger() -> MemoryLedger:
    """What lasts."""
    return MemoryLedger()


@pytest.fixture
def lasting(body: FileBody, ledger: MemoryLedger) -> FileBody:
    """The body, with a ledger."""
    return msgspec.structs.replace(body, ledger=ledger)


@pytest.fixture
def server() -> Iterator[Google]:
    """A server of the test's own."""
    with Google() as google:
        yield google


@pytest.fixture
async def store(server: Google) -> AsyncIterator[GsStore]:
    """A store at it."""
    made = GsStore(server.address("bucket", "p"), None, TestClock())
    yield made
    await made.aclose()


def there(server: Google) -> bytes | None:
    """What the object holds."""
    held = server.buckets["bucket"].get("p/key")
    return held.body if held else None


def content(body: FileBody) -> bytes:
    """The bytes of the body."""
    return Path(body.path).read_bytes()[body.offset :][: body.size]


def began(server: Google) -> int:
    """How many sessions were begun."""
    return sum("uploadType=resumable" in line and line[:4] == "POST" for line in server.asked)


def _lose(server: Google, wanted: int, error: Exception | None = None) -> None:
    """Let the server act on the n-th request of a session, and not say so."""
    left = wanted

    def after(request: web.BaseRequest) -> None:
        nonlocal left
        left -= "upload_id=" in request.raw_path
        if left == 0:
            left = -1
            raise error or Cut

    server.after = after  # type: ignore[assignment]


async def test_parts_arrive_in_disorder(store: GsStore, server: Google, lasting: FileBody) -> None:
    """A file goes part after part, with how far it is noted, and the object is the file."""
    told: list[int] = []
    await store.put("key", msgspec.structs.replace(lasting, told=told.append))
    assert there(server) == content(lasting)
    ledger = lasting.ledger
    assert isinstance(ledger, MemoryLedger) and ledger.upload
    assert ledger.upload.sent == {
        number: str(min(number * PART, SIZE)) for number in (1, 2, 3, 4, 5)
    }
    assert (told[0], told[-1]) == (0, SIZE) and told == sorted(told)
    assert sum("PUT" in line for line in server.asked) == 5


@pytest.mark.parametrize("cut_at", [1, QUANTUM + 1, PART, 3 * PART + QUANTUM + 7, SIZE])
async def test_a_cut_costs_more_than_was_in_the_air(
    store: GsStore, server: Google, lasting: FileBody, cut_at: int
) -> None:
    """A connection that breaks in a part costs less than 256 KiB of it: the server is asked, and what it
    has not is sent.
    """
    server.cut_at = cut_at
    await store.put("key", lasting)
    assert there(server) == content(lasting)
    assert server.received <= SIZE + QUANTUM + (2 << 16) + 1000
    assert began(server) == 1


@pytest.mark.parametrize("wanted", [1, 2, 5])
async def test_a_lost_answer_costs_the_part(
    store: GsStore, server: Google, lasting: FileBody, wanted: int
) -> None:
    """A part whose answer is lost is not sent again; the last one neither."""
    _lose(server, wanted)
    await store.put("key", lasting)
    assert there(server) == content(lasting)
    assert server.received < SIZE + 1000


@pytest.mark.parametrize("killed_after", [1, 3, 5])
async def test_an_upload_that_broke_off_begins_anew(
    store: GsStore, server: Google, lasting: FileBody, ledger: MemoryLedger, killed_after: int
) -> None:
    """The next try goes on where the server is, noted or not; where that is at the end, it sends nothing."""

    class Killed(BaseException):
        pass

    noting = ledger.note_part

    async def note_part(upload: Upload, number: int, etag: str) -> None:
        if number == killed_after:
            raise Killed
        await noting(upload, number, etag)

    ledger.note_part = note_part  # type: ignore[method-assign]
    with pytest.raises(Killed):
        await store.put("key", lasting)
    ledger.note_part = noting  # type: ignore[method-assign]
    await store.put("key", lasting)
    assert there(server) == content(lasting)
    assert server.received < SIZE + 1000
    assert began(server) == 1


@pytest.mark.parametrize("status", [404, 410])
async def test_a_session_that_is_gone_is_gone_on_with(
    store: GsStore, server: Google, lasting: FileBody, ledger: MemoryLedger, status: int
) -> None:
    """A session that the server has given up is begun anew, be that found at the start or in the middle."""
    ledger.upload = Upload(1, "/upload/storage/v1/b/bucket/o?upload_id=no", PART, {1: "x"})
    await store.put("key", lasting)
    assert there(server) == content(lasting)
    ledger.upload = None
    _lose(server, 2, Refuse(status, "", "gone"))
    await RetryingStore(store, TestClock()).put("other", msgspec.structs.replace(lasting))
    assert server.buckets["bucket"]["p/other"].body == content(lasting)
    assert began(server) == 3


async def test_an_object_that_is_gone_counts_as_sent(
    store: GsStore, server: Google, lasting: FileBody
) -> None:
    """A session that is done counts only while the object it made is there."""
    await store.put("key", lasting)
    server.asked.clear()
    await store.put("key", lasting)
    assert began(server) == 0
    await store.delete("key")
    await store.put("key", lasting)
    assert began(server) == 1
    assert there(server) == content(lasting)


async def test_a_file_that_changed_lands(store: GsStore, server: Google, lasting: FileBody) -> None:
    """A part that is not what it was when the whole was hashed does not leave, and is not taken up later."""

    def change(request: web.BaseRequest) -> None:
        if "upload_id=" in request.raw_path:
            with open(lasting.path, "r+b") as file:
                file.seek(6 + 3 * PART + 1)
                file.write(b"changed")

    server.before = change  # type: ignore[assignment]
    for _ in range(2):
        with pytest.raises(FileChanged):
            await store.put("key", lasting)
    assert there(server) is None
    assert server.received < 3 * PART + 1000


async def test_a_changed_file_is_hashed_again(
    store: GsStore, server: Google, body: FileBody
) -> None:
    """Without sums from before, the file is hashed before its session begins, and refused if it changed."""
    with open(body.path, "r+b") as file:
        file.seek(6 + PART)
        file.write(b"changed")
    with pytest.raises(FileChanged):
        await store.put("key", body)
    assert not server.asked


async def test_wrong_bytes_stay(
    store: GsStore, server: Google, lasting: FileBody, ledger: MemoryLedger
) -> None:
    """The server refuses a whole that has another CRC32C than the one from the hashing pass; the session is
    forgotten.
    """
    await store.put("other", lasting)
    assert ledger.kept and ledger.upload
    ledger.upload = None
    ledger.kept = PartSums(PART, ledger.kept.sums[:-4] + b"\0\0\0\0")
    with pytest.raises(OutcomeUnknown, match="other bytes arrived"):
        await store.put("key", lasting)
    assert there(server) is None and ledger.upload is None


async def test_sums_without_the_whole_are_enough(
    store: GsStore, server: Google, lasting: FileBody, ledger: MemoryLedger
) -> None:
    """Sums that were made for another kind of store, or for other parts, are made anew."""
    for sums in (PartSums(PART, bytes(32 * 5)), PartSums(2 * PART, bytes(32 * 3 + 4))):
        ledger.kept, ledger.upload = sums, None
        await store.put("key", lasting)
        assert len(ledger.kept.sums) == 32 * 5 + 4 and crc32c_in(ledger.kept)
    assert there(server) == content(lasting)


async def test_a_server_that_takes_nothing_is_asked_for_ever(
    store: GsStore, server: Google, lasting: FileBody, ledger: MemoryLedger
) -> None:
    """Where nothing moves, the steps end with an error, and the session stays for the next try."""

    def refuse(request: web.BaseRequest) -> None:
        if "upload_id=" in request.raw_path:
            raise Refuse(503, "backendError", "Backend Error")

    server.before = refuse  # type: ignore[assignment]
    with pytest.raises(StepsFailed, match="Backend Error"):
        await store.put("key", lasting)
    assert ledger.upload is not None
    server.before = None
    await store.put("key", lasting)
    assert began(server) == 1


async def test_what_nobody_goes_on_with_stays(
    store: GsStore, server: Google, body: FileBody
) -> None:
    """Without a ledger a session that fails is cancelled; cancelling twice is no error."""

    def refuse(request: web.BaseRequest) -> None:
        if request.method == "PUT":
            raise Refuse(503, "backendError", "Backend Error")

    server.before = refuse  # type: ignore[assignment]
    with pytest.raises(StepsFailed):
        await store.put("key", body)
    assert not server.sessions
    await store.give_up("key", "/upload/storage/v1/b/bucket/o?upload_id=session-0")
    assert [stat async for stat in store.list_uploads("")] == []


async def test_a_session_begins_nowhere(store: GsStore, server: Google, body: FileBody) -> None:
    """What refuses a session says why."""
    no_bucket = Refuse(404, "notFound", "The specified bucket does not exist.")
    kinds: dict[type[WherryError], Refuse] = {
        StoreMissing: no_bucket,
        AccessRefused: Refuse(403, "forbidden", "no"),
        OutcomeUnknown: Refuse(429, "rateLimitExceeded", "slower"),
    }
    for kind, error in kinds.items():

        def refuse(_: object, error: Refuse = error) -> None:
            raise error

        server.before = refuse  # type: ignore[assignment]
        with pytest.raises(kind) as raised:
            await store.put("key", body)
        assert type(raised.value) is kind
    server.before = None
    with pytest.raises(ObjectMissing):
        await store.head("key")
