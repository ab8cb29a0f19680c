"""Big files in parts, when something goes wrong on the way."""

from __future__ import annotations

import hashlib
import os
import re
from base64 import b64encode
from pathlib import Path

import msgspec
import pytest

from tests.support.http import Line, Scripted, Seen, answer, error
from tests.unit.stores.helpers import MemoryLedger, TestClock, store_at
from wherry.errors import FileChanged, StoreError
from wherryd.model import PartSums, Upload
from wherryd.stores import parts
from wherryd.stores.base import FileBody, OutcomeUnknown, StepsFailed
from wherryd.stores.http import transport
from wherryd.stores.parts import SINGLE_PUT_BYTES, part_bytes, split
from wherryd.stores.retry import PATIENT, RetryingStore

BEGUN = answer(200, b"<R><UploadId>up&amp;1</UploadId></R>")
DONE = answer(200, b'<R><ETag>"whole-2"</ETag></R>')
SIZE = 5 << 10


@pytest.fixture(autouse=True)
def _small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Parts of 1 KiB, so that a part is a packet."""
    monkeypatch.setattr("wherryd.stores.s3.store.SINGLE_PUT_BYTES", 1 << 10)
    monkeypatch.setattr(parts, "PART_BYTES", 1 << 10)
    monkeypatch.setattr(parts, "_MIB", 1 << 10)


@pytest.fixture
def body(tmp_path: Path) -> FileBody:
    """A file of five parts, after some bytes that are no part of it."""
    content = os.urandom(SIZE)
    (tmp_path / "file").write_bytes(b"before" + content + b"after")
    digest = hashlib.sha256(content).digest()
    return FileBody(path=str(tmp_path / "file"), offset=6, size=SIZE, sha256=digest)


def _step(seen: Seen) -> str:
    """Which step of an upload a request is."""
    part = re.search("partNumber=([0-9]+)", seen.target)
    if part:
        return f"part {part[1]}"
    if seen.method == "DELETE":
        return "abort"
    if seen.method == "HEAD":
        return "head"
    if seen.method == "GET":
        return "list"
    return "begin" if "uploads=" in seen.target else "complete"


def _server(server: Scripted, **planned: list[Line]) -> None:
    """Serve an upload; ``planned`` has other answers for the first tries of a step."""

    def said(seen: Seen) -> object:
        step = _step(seen)
        script = planned.get(step.replace(" ", "_"))
        if script:
            line = script.pop(0)
            return line(seen) if callable(line) else line
        etag = f'"{hashlib.md5(seen.body).hexdigest()}"'
        return {"begin": BEGUN, "complete": DONE}.get(step, answer(200, ETag=etag))

    server.otherwise = said


def _steps(server: Scripted) -> list[str]:
    return sorted(_step(seen) for seen in server.seen)


PARTS = [f"part {number}" for number in range(1, 6)]


async def test_parts_are_missing_or_in_disorder(body: FileBody) -> None:
    """Each part goes out once with its own checksum, and all are named in order at the end."""
    async with store_at() as (store, server):
        _server(server)
        await store.put("key", body)
    assert _steps(server) == sorted(["begin", *PARTS, "complete"])
    assert server.seen[0].headers["x-amz-checksum-algorithm"] == "SHA256"
    content = Path(body.path).read_bytes()[6 : 6 + SIZE]
    wanted = []
    for number in range(5):
        part = content[number << 10 : (number + 1) << 10]
        (seen,) = [one for one in server.seen if _step(one) == f"part {number + 1}"]
        assert seen.body == part
        assert "uploadId=up%261" in seen.target
        digest = hashlib.sha256(part).digest()
        assert seen.headers["x-amz-content-sha256"] == digest.hex()
        assert seen.headers["x-amz-checksum-sha256"] == b64encode(digest).decode()
        wanted.append(
            f'<Part><PartNumber>{number + 1}</PartNumber><ETag>"{hashlib.md5(part).hexdigest()}"</ETag>'
            f"<ChecksumSHA256>{b64encode(digest).decode()}</ChecksumSHA256></Part>"
        )
    assert "".join(wanted) in server.seen[-1].body.decode()


@pytest.mark.parametrize("step", ["part_3", "complete"])
@pytest.mark.parametrize("fault", [None, error(503, "SlowDown"), error(500, "InternalError")])
async def test_a_short_fault_begins_anew(step: str, fault: Line, body: FileBody) -> None:
    """A step that fails is repeated by itself; the other parts are not."""
    async with store_at() as (store, server):
        _server(server, **{step: [fault, fault]})
        await store.put("key", body)
    again = step.replace("_", " ")
    assert _steps(server) == sorted(["begin", *PARTS, "complete", again, again])


async def test_a_part_that_stalls_costs_the_others(
    monkeypatch: pytest.MonkeyPatch, body: FileBody
) -> None:
    """A part whose connection falls silent is sent again on another one, and no other part is."""
    monkeypatch.setattr(transport, "_SILENCE_S", 2)
    async with store_at() as (store, server):
        _server(server, part_3=[...])  # and nothing to whatever else comes on that connection
        await store.put("key", body)
    assert _steps(server) == sorted(["begin", *PARTS, "complete", "part 3"])
    stalled, again = (seen for seen in server.seen if _step(seen) == "part 3")
    assert again.body == stalled.body == Path(body.path).read_bytes()[6 + 2048 : 6 + 3072]


async def test_repeated_parts_are_told_twice(body: FileBody) -> None:
    """What is told of the parts adds up to the whole, also where some went out several times."""
    told: list[int] = []
    async with store_at() as (store, server):
        _server(server, part_2=[None, error(503, "SlowDown")], part_5=[None])
        await store.put("key", msgspec.structs.replace(body, told=told.append))
    assert told[-1] == max(told) == SIZE


@pytest.mark.parametrize("step", ["part_1", "part_5", "complete"])
async def test_a_long_fault_leaves_parts(step: str, body: FileBody) -> None:
    """If a step fails for long, the parts are given up, and the error comes through at once."""
    async with store_at() as (store, server):
        _server(server, **{step: [error(503, "SlowDown")] * 99})
        with pytest.raises(OutcomeUnknown, match="SlowDown"):
            await RetryingStore(store, TestClock()).put("key", body)
    steps = _steps(server)
    assert steps.count(step.replace("_", " ")) == PATIENT.tries
    assert steps.count("abort") == 1
    assert step == "complete" or "complete" not in steps


@pytest.mark.parametrize("fault", [None, error(503, "SlowDown"), answer(200, b"<html>")])
async def test_a_short_fault_ends_a_beginning(fault: Line, body: FileBody) -> None:
    """A beginning that fails is repeated as any other put is, and no oftener."""
    async with store_at() as (store, server):
        _server(server, begin=[fault] * 99)
        with pytest.raises(OutcomeUnknown):
            await store.put("key", body)
        assert _steps(server) == ["begin"]
        _server(server, begin=[fault, fault])
        await RetryingStore(store, TestClock()).put("key", body)
    assert _steps(server) == sorted([*["begin"] * 4, *PARTS, "complete"])


@pytest.mark.parametrize("step", ["part_2", "complete"])
async def test_a_step_is_sent_to_an_upload_that_is_gone(step: str, body: FileBody) -> None:
    """An upload that the server has given up is begun anew, without another try at the old one."""
    async with store_at() as (store, server):
        _server(server, **{step: [error(404, "NoSuchUpload")]}, head=[answer(404)])
        await RetryingStore(store, TestClock()).put("key", body)
    steps = _steps(server)
    assert steps.count("begin") == 2
    assert steps.count(step.replace("_", " ")) == 2
    assert steps.count("abort") == 1  # in vain, most likely


async def test_a_log_in_page_takes_a_part(body: FileBody) -> None:
    """A part without an ETag and an end without one have not arrived."""
    page = answer(200, b"<html><p>Please log in</p></html>")
    async with store_at() as (store, server):
        _server(server, part_2=[page], complete=[page, answer(200, b"<html>")])
        await store.put("key", body)
    assert _steps(server).count("part 2") == 2
    assert _steps(server).count("complete") == 3


@pytest.mark.parametrize("fault", [None, error(503, "SlowDown")])
async def test_a_fault_leaves_parts(fault: Line, body: FileBody) -> None:
    """Giving the parts back is tried again; a server that has none of them any more is done with."""
    async with store_at() as (store, server):
        refused = error(400, "InvalidPart")
        _server(server, part_1=[refused], abort=[fault, fault, error(404, "NoSuchUpload")])
        with pytest.raises(StoreError):
            await store.put("key", body)
    assert _steps(server).count("abort") == 3


async def test_a_changed_file_is_sent(body: FileBody) -> None:
    """Of bytes that changed since they were hashed first nothing is sent."""
    changed = msgspec.structs.replace(body, sha256=bytes(32))
    async with store_at() as (store, server):
        _server(server)
        with pytest.raises(FileChanged):
            await store.put("key", changed)
    assert _steps(server) == []


async def test_a_part_that_changed_is_sent_again(body: FileBody) -> None:
    """A part that the server refuses, and that is not what it was, fails the file at once."""

    def change(seen: Seen) -> bytes:
        content = bytearray(Path(body.path).read_bytes())
        content[6 + 1030] ^= 1
        Path(body.path).write_bytes(content)
        return error(400, "BadDigest")

    async with store_at() as (store, server):
        _server(server, part_2=[change])
        with pytest.raises(FileChanged):
            await store.put("key", body)
    assert _steps(server).count("part 2") == 1
    assert "complete" not in _steps(server)


async def test_a_file_that_changes_in_between_is_completed(body: FileBody) -> None:
    """A file that shrinks while its parts are sent is given up."""

    def shrink(_: Seen) -> bytes:
        os.truncate(body.path, 3000)
        return BEGUN

    async with store_at() as (store, server):
        _server(server, begin=[shrink])
        with pytest.raises(FileChanged):
            await store.put("key", body)
    assert "complete" not in _steps(server) and "abort" in _steps(server)


async def test_a_damaged_part_is_kept(body: FileBody) -> None:
    """A part that arrives otherwise than it was sent is sent again."""
    async with store_at() as (store, server):
        _server(server, part_2=[error(400, "BadDigest")])
        await store.put("key", body)
    assert _steps(server).count("part 2") == 2


async def test_an_error_in_a_good_answer_passes_for_success(body: FileBody) -> None:
    """Completing can fail after the status 200 is out."""
    failed = answer(200, b"<Error><Code>InternalError</Code><Message>sorry</Message></Error>")
    async with store_at() as (store, server):
        _server(server, complete=[failed])
        await store.put("key", body)
        assert _steps(server).count("complete") == 2
        _server(server, complete=[failed] * 99)
        with pytest.raises(OutcomeUnknown, match="sorry"):
            await store.put("key", body)


@pytest.mark.parametrize("length", [SIZE, SIZE - 1])
async def test_a_lost_answer_fails_a_finished_upload(length: int, body: FileBody) -> None:
    """If the upload is gone after a lost answer, it was completed: if the object is there."""
    async with store_at() as (store, server):
        head = f"HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n".encode()
        gone = error(404, "NoSuchUpload")
        _server(server, complete=[None, *[gone] * 9], head=[head] * 9)
        if length == SIZE:
            await store.put("key", body)
        else:
            with pytest.raises(OutcomeUnknown):
                await store.put("key", body)


async def test_a_beginning_that_makes_no_sense_is_gone_on_with(body: FileBody) -> None:
    """Without an upload's id nothing is sent."""
    for page in (b"<html>", b"<html><p>Please log in</p></html>", b"<R><UploadId/></R>"):
        async with store_at() as (store, server):
            server.otherwise = answer(200, page)
            with pytest.raises(OutcomeUnknown, match="no upload"):
                await store.put("key", body)
        assert _steps(server) == ["begin"]


def test_a_huge_file_has_too_many_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Parts grow with the file: 10,000 are the most that S3 takes, 5 TiB its largest object."""
    monkeypatch.undo()
    for size in (SINGLE_PUT_BYTES + 1, 80 << 30, (80 << 30) + 1, 5 << 40):
        cut = list(split(size, part_bytes(size)))
        assert len(cut) <= 10_000
        assert sum(length for _, length in cut) == size
        assert all(offset % (1 << 20) == 0 for offset, _ in cut)
        assert max(length for _, length in cut) < 5 << 30


# ── going on ───────────────────────────────────────────────────────────────────────────────────
@pytest.fixture
def ledger() -> MemoryLedger:
    """What a first try has left: two parts of five, and the server's trouble with a third."""
    return MemoryLedger()


@pytest.fixture
def lasting(body: FileBody, ledger: MemoryLedger) -> FileBody:
    """The body, with a ledger."""
    return msgspec.structs.replace(body, ledger=ledger)


def _part(body: FileBody, number: int) -> bytes:
    content = Path(body.path).read_bytes()[6 : 6 + SIZE]
    return content[(number - 1) << 10 : number << 10]


def _listed(body: FileBody, *numbers: int, told: bool = False, **other: str) -> Line:
    """An answer that lists parts; ``told``: with their checksums."""
    parts = []
    for number in numbers:
        part = _part(body, number)
        fields = {
            "PartNumber": str(number),
            "ETag": f'"{hashlib.md5(part).hexdigest()}"',
            "Size": str(len(part)),
        }
        if told:
            fields["ChecksumSHA256"] = b64encode(hashlib.sha256(part).digest()).decode()
        fields |= other
        parts.append("".join(f"<{name}>{text}</{name}>" for name, text in fields.items()))
    listed = "".join(f"<Part>{part}</Part>" for part in parts)
    page = f"<ListPartsResult><IsTruncated>false</IsTruncated>{listed}</ListPartsResult>"
    return answer(200, page.encode())


async def _fail_at(lasting: FileBody, step: str) -> list[str]:
    """A first try that gets so far; its steps."""
    async with store_at() as (store, server):
        _server(server, **{step: [error(503, "SlowDown")] * 99})
        with pytest.raises(StepsFailed):
            await store.put("key", lasting)
    return _steps(server)


async def test_when_to_come_back_is_lost_with_the_upload(lasting: FileBody) -> None:
    """A server that wants to be left alone for long ends the upload, and is left alone for so long."""
    busy = error(503, "SlowDown", Retry_After="40")
    async with store_at() as (store, server):
        _server(server, part_2=[busy] * 99)
        with pytest.raises(StepsFailed) as failed:
            await store.put("key", lasting)
    assert failed.value.retry_after_s == 40


async def test_an_upload_that_broke_off_begins_anew(
    lasting: FileBody, ledger: MemoryLedger
) -> None:
    """The next try lists what is there, and sends the rest only."""
    ledger.room = 0  # one part after the other
    steps = await _fail_at(lasting, "part_4")
    assert "abort" not in steps and "part 5" not in steps
    assert ledger.upload is not None and sorted(ledger.upload.sent) == [1, 2, 3]
    told: list[int] = []
    async with store_at() as (store, server):
        _server(server, list=[_listed(lasting, 1, 2, 3)])
        await store.put("key", msgspec.structs.replace(lasting, told=told.append))
    assert _steps(server) == sorted(["list", "part 4", "part 5", "complete"])
    assert server.seen[-1].body.count(b"<PartNumber>") == 5
    assert told[-1] == SIZE


@pytest.mark.parametrize(
    ("numbers", "other", "again"),
    [
        ((1, 3), {}, [2, 4, 5]),  # the server has lost one
        ((1, 2, 3), {"Size": "1000"}, [1, 2, 3, 4, 5]),
        ((1, 2, 3), {"ETag": '"other"'}, [1, 2, 3, 4, 5]),
        ((1, 2, 3), {"ChecksumSHA256": b64encode(bytes(32)).decode()}, [1, 2, 3, 4, 5]),
        ((1, 2, 3), {"PartNumber": "6"}, [1, 2, 3, 4, 5]),
    ],
)
async def test_a_part_that_is_not_ours_is_taken_for_ours(
    numbers: tuple[int, ...],
    other: dict[str, str],
    again: list[int],
    lasting: FileBody,
    ledger: MemoryLedger,
) -> None:
    """Of the parts that are there those count that are as they were noted."""
    ledger.room = 0
    await _fail_at(lasting, "part_4")
    async with store_at() as (store, server):
        _server(server, list=[_listed(lasting, *numbers, **other)])
        await store.put("key", lasting)
    assert _steps(server) == sorted(["list", *(f"part {n}" for n in again), "complete"])


async def test_a_part_that_came_in_is_sent_again(lasting: FileBody, ledger: MemoryLedger) -> None:
    """A part that a kill kept from being noted counts, if the server tells its checksum."""
    ledger.room = 0
    await _fail_at(lasting, "part_3")
    async with store_at() as (store, server):
        _server(server, list=[_listed(lasting, 1, 2, 3, 4, told=True)])
        await store.put("key", lasting)
    assert _steps(server) == sorted(["list", "part 5", "complete"])
    ledger.upload = Upload(1, "up&1", 1 << 10, {})
    async with store_at() as (store, server):
        _server(server, list=[_listed(lasting, 1, 2, 3, 4)])
        await store.put("key", lasting)
    assert _steps(server) == sorted(["list", *PARTS, "complete"])


async def test_a_long_list_is_cut(lasting: FileBody, ledger: MemoryLedger) -> None:
    """Parts are listed page by page."""
    ledger.upload = Upload(1, "up&1", 1 << 10, {})
    first = _listed(lasting, 1, 2, 3, told=True)
    assert isinstance(first, bytes)
    page = first.partition(b"\r\n\r\n")[2].replace(
        b"<IsTruncated>false</IsTruncated>",
        b"<IsTruncated>true</IsTruncated><NextPartNumberMarker>3</NextPartNumberMarker>",
    )
    async with store_at() as (store, server):
        _server(server, list=[answer(200, page), _listed(lasting, 4, 5, told=True)])
        await store.put("key", lasting)
    assert _steps(server) == sorted(["list", "list", "complete"])
    assert "part-number-marker=3" in server.seen[1].target


@pytest.mark.parametrize("step", ["list", "part_5", "complete"])
async def test_an_upload_that_is_gone_is_gone_on_with(
    step: str, lasting: FileBody, ledger: MemoryLedger
) -> None:
    """What the server has given up meanwhile is forgotten, and begun anew."""
    ledger.upload = Upload(1, "up&1", 1 << 10, {})
    planned: dict[str, list[Line]] = {
        "list": [_listed(lasting, 1, 2, 3, 4, told=True)],
        "head": [answer(404)],
    }
    planned[step] = [error(404, "NoSuchUpload")]
    async with store_at() as (store, server):
        _server(server, **planned)
        await RetryingStore(store, TestClock()).put("key", lasting)
    steps = _steps(server)
    assert steps.count("begin") == 1 and steps.count("list") == 1
    assert steps[-5:] == PARTS or steps.count("part 5") == 2


async def test_a_right_that_is_missing_stops_an_upload(
    lasting: FileBody, ledger: MemoryLedger
) -> None:
    """Who may not list parts goes on with what was noted; where that is wrong, all is sent again."""
    ledger.room = 0
    await _fail_at(lasting, "part_4")
    async with store_at() as (store, server):
        _server(server, list=[error(403, "AccessDenied")] * 9)
        await store.put("key", lasting)
    steps = _steps(server)
    assert [step for step in steps if step != "list"] == sorted(["part 4", "part 5", "complete"])
    async with store_at() as (store, server):
        _server(server, list=[error(403, "AccessDenied")] * 9, complete=[error(400, "InvalidPart")])
        await RetryingStore(store, TestClock()).put("key", lasting)
    steps = _steps(server)
    assert (steps.count("abort"), steps.count("begin")) == (1, 1)
    assert [step for step in steps if step.startswith("part")] == PARTS


async def test_parts_of_another_size_are_mixed(lasting: FileBody, ledger: MemoryLedger) -> None:
    """An upload whose parts have another size than they have now is given back."""
    ledger.upload = Upload(1, "up&1", 2 << 10, {1: "x"})
    ledger.kept = PartSums(2 << 10, bytes(96))
    async with store_at() as (store, server):
        _server(server)
        await store.put("key", lasting)
    assert _steps(server) == sorted(["abort", "begin", *PARTS, "complete"])
    assert ledger.kept is not None and ledger.kept.part_bytes == 1 << 10


@pytest.mark.parametrize("room", [0, 1, 9])
async def test_parts_take_more_room_than_there_is(
    room: int, lasting: FileBody, ledger: MemoryLedger
) -> None:
    """One part is always on its way, further ones where there is room, and the room is given back."""
    ledger.room = room
    least = room
    taken = ledger.take_room

    def take_room() -> bool:
        nonlocal least
        is_taken = taken()
        least = min(least, ledger.room)
        return is_taken

    ledger.take_room = take_room  # type: ignore[method-assign]
    async with store_at() as (store, server):
        _server(server)
        await store.put("key", lasting)
    assert ledger.room == room
    assert least == max(0, room - 3)
