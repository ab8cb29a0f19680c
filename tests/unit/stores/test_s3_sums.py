"""Who checks the bytes that arrive: a server that says so, else we, before the last of them leave."""

from __future__ import annotations

import hashlib
import os
from base64 import b64encode
from pathlib import Path

import msgspec
import pytest

from tests.support.http import Line, Seen, answer
from tests.unit.stores.helpers import store_at
from wherry.errors import FileChanged
from wherryd.stores import parts
from wherryd.stores.base import FileBody
from wherryd.stores.bodies import CHUNK_BYTES
from wherryd.stores.s3 import traits

SIZE = 2 * CHUNK_BYTES + 7
STORED = answer(200, ETag='"e"')


@pytest.fixture
def body(tmp_path: Path) -> FileBody:
    """A file of three pieces."""
    content = os.urandom(SIZE)
    (tmp_path / "file").write_bytes(content)
    return FileBody(str(tmp_path / "file"), 0, SIZE, hashlib.sha256(content).digest())


@pytest.fixture
def _refuses_sums(monkeypatch: pytest.MonkeyPatch) -> None:
    """The scripted server is one of a row whose servers take no checksums."""
    rows = [row for row in traits._TABLE if not row.takes_sums]
    ours = msgspec.structs.replace(rows[0], hosts=r"127\.0\.0\.1")
    monkeypatch.setattr(traits, "_TABLE", (ours, *traits._TABLE))


def _checked(seen: Seen) -> bytes:
    sent = seen.headers["x-amz-checksum-sha256"]
    return answer(200, ETag='"e"', **{"x-amz-checksum-sha256": sent})


async def test_a_changed_file_lands_under_its_old_digest(body: FileBody) -> None:
    """Without a word that a server checks bodies, no file arrives whole that is not the right one."""
    async with store_at(STORED, clock=None) as (store, server):
        await store.put("good", body)
        with pytest.raises(FileChanged):
            await store.put("bad", msgspec.structs.replace(body, sha256=bytes(32)))
    (good,) = server.seen  # of the other request too few bytes came to be one
    assert good.body == Path(body.path).read_bytes()


async def test_what_a_server_checks_is_checked_twice(body: FileBody) -> None:
    """Once a server has said that it has compared a body with its checksum, it is left to it."""
    bad = msgspec.structs.replace(body, sha256=bytes(32))
    async with store_at(_checked, STORED) as (store, server):
        await store.put_if_absent("k", b"small")
        await store.put("bad", bad)
    assert server.seen[1].headers["x-amz-checksum-sha256"] == b64encode(bad.sha256).decode()


@pytest.mark.usefixtures("_refuses_sums")
async def test_a_server_is_asked_for_what_it_refuses(
    body: FileBody, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Google's endpoint, R2 and B2 refuse checksums in headers: they get none, in no step of an upload."""
    monkeypatch.setattr("wherryd.stores.s3.store.SINGLE_PUT_BYTES", CHUNK_BYTES)
    monkeypatch.setattr(parts, "PART_BYTES", CHUNK_BYTES)

    def said(seen: Seen) -> Line:
        if "uploads=" in seen.target:
            return answer(200, b"<R><UploadId>up</UploadId></R>")
        return answer(200, b'<R><ETag>"w"</ETag></R>') if seen.method == "POST" else STORED

    async with store_at() as (store, server):
        server.otherwise = said
        await store.put("small", b"x")
        await store.put("big", body)
    assert len(server.seen) == 1 + 1 + 3 + 1
    assert not [name for seen in server.seen for name in seen.headers if "checksum" in name]
    assert all(seen.headers["x-amz-content-sha256"] for seen in server.seen)
    assert b"ChecksumSHA256" not in server.seen[-1].body
