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
from tests.unit.stores.helpers import TestClock, store_at
from wherry.errors import FileChanged
from wherryd.stores.base import FileBody, OutcomeUnknown
from wherryd.stores.retry import PATIENT, RetryingStore
from wherryd.stores.s3 import multipart
from wherryd.stores.s3.multipart import SINGLE_PUT_BYTES, split

BEGUN = answer(200, b"<R><UploadId>up&amp;1</UploadId></R>")
DONE = answer(200, b'<R><ETag>"whole-2"</ETag></R>')
SIZE = 5 << 10


@pytest.fixture(autouse=True)
def _small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Parts of 1 KiB, so that a part is a packet."""
    monkeypatch.setattr(multipart, "SINGLE_PUT_BYTES", 1 << 10)
    monkeypatch.setattr("wherryd.stores.s3.store.SINGLE_PUT_BYTES", 1 << 10)
    monkeypatch.setattr(multipart, "_MIB", 1 << 10)


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
    assert "abort" not in steps


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
    changed = msgspec.structs.replace(body, sha256=bytes(32))
    async with store_at() as (store, server):
        _server(server, abort=[fault, fault, error(404, "NoSuchUpload")])
        with pytest.raises(FileChanged):
            await store.put("key", changed)
    assert _steps(server).count("abort") == 3


async def test_a_changed_file_is_completed(body: FileBody) -> None:
    """Bytes that changed since they were hashed first are never made an object."""
    changed = msgspec.structs.replace(body, sha256=bytes(32))
    async with store_at() as (store, server):
        _server(server)
        with pytest.raises(FileChanged):
            await store.put("key", changed)
    assert "complete" not in _steps(server) and "abort" in _steps(server)


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
    for size in (SINGLE_PUT_BYTES + 1, 160 << 30, (160 << 30) + 1, 5 << 40):
        parts = list(split(size))
        assert len(parts) <= 10_000
        assert sum(length for _, length in parts) == size
        assert all(offset % (1 << 20) == 0 for offset, _ in parts)
        assert max(length for _, length in parts) < 5 << 30
