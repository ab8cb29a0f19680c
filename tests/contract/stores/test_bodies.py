"""What every store does alike: bodies that are files, checked on their way."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from tests.unit.stores.helpers import MemoryLedger
from wherry.errors import FileChanged
from wherryd.stores.base import FileBody, ObjectMissing, ObjectStore, PackBody, tell_nobody
from wherryd.stores.bodies import joined
from wherryd.stores.crc32c import Crc32c
from wherryd.stores.parts import PART_BYTES, SINGLE_PUT_BYTES, make_sums, part_bytes

MakeBody = Callable[..., FileBody]

# the memory store reads files where it stands; it has no threads on purpose
pytestmark = pytest.mark.blocks(why="the memory store has no threads")

SIZES = [
    1,
    (1 << 20) - 1,
    1 << 20,
    (1 << 20) + 1,
    SINGLE_PUT_BYTES,
    SINGLE_PUT_BYTES + 1,
    2 * SINGLE_PUT_BYTES,
    5 * SINGLE_PUT_BYTES + 12345,
]


async def _digest_of(store: ObjectStore, key: str) -> bytes:
    sha256 = hashlib.sha256()
    async for chunk in store.stream(key):
        sha256.update(chunk)
    return sha256.digest()


@pytest.mark.parametrize("size", SIZES)
async def test_a_file_arrives_otherwise(store: ObjectStore, file_body: MakeBody, size: int) -> None:
    """A file of any size arrives whole, with few or many pieces or parts."""
    body = file_body(os.urandom(1 << 16) * (size // (1 << 16) + 1), 0, size)
    await store.put("blob", body)
    assert (await store.head("blob")).size == size
    assert await _digest_of(store, "blob") == body.sha256


@pytest.mark.parametrize("size", [3 << 20, 3 * SINGLE_PUT_BYTES])
async def test_nothing_is_told_until_all_is_there(
    store: ObjectStore, kind: str, file_body: MakeBody, size: int
) -> None:
    """How much of a file has left is told while it leaves, never more than there is, and from 0 on again
    when it is put again.
    """
    if kind == "memory":
        pytest.skip("it reads a file at once")
    told: list[int] = []
    body = msgspec.structs.replace(file_body(os.urandom(size)), told=told.append)
    for _ in range(2):
        told.clear()
        await store.put("blob", body)
        assert [left for left in told if 0 < left < size]
        assert min(told) == 0 and max(told) <= size


@pytest.mark.parametrize(("offset", "size"), [(7, 100), (1 << 20, 3), (5, SINGLE_PUT_BYTES + 9)])
async def test_a_part_of_a_file_is_shifted(
    store: ObjectStore, file_body: MakeBody, offset: int, size: int
) -> None:
    """A body is its own stretch of the file, and nothing around it."""
    body = file_body(os.urandom(1 << 16) * 300, offset, size)
    await store.put("blob", body)
    assert await _digest_of(store, "blob") == body.sha256


async def test_who_reads_is_told_that_bodies_are_checked(
    store: ObjectStore, file_body: MakeBody
) -> None:
    """A server that gives the checksum back to readers, as it was sent, may not have compared it."""
    body = file_body(b"right")
    await store.put("blob", body)
    await store.head("blob")
    assert await _digest_of(store, "blob") == body.sha256
    changed = msgspec.structs.replace(file_body(b"wrong"), sha256=body.sha256)
    with pytest.raises(FileChanged):
        await store.put("other", changed)
    with pytest.raises(ObjectMissing):
        await store.head("other")


@pytest.mark.parametrize("size", [0, 1, 16 << 10])
async def test_bytes_in_memory_are_looked_for_in_a_file(
    store: ObjectStore, file_body: MakeBody, size: int
) -> None:
    """Bytes that lie in memory arrive by themselves, and beside files' in a pack; checked like those."""
    data = os.urandom(size)
    body = FileBody("", 0, size, hashlib.sha256(data).digest(), data=data)
    await store.put("blob", body)
    assert await _digest_of(store, "blob") == body.sha256
    files = (body, file_body(b"between"), body, body)
    whole = data + b"between" + data + data
    pack = PackBody(
        files, len(whole), hashlib.sha256(whole).digest(), tell_nobody, stretches=joined(files)
    )
    await store.put("pack", pack)
    assert await _digest_of(store, "pack") == pack.sha256
    for wrong in (data[:-1], bytes(reversed(data)), None) if size > 1 else ():
        with pytest.raises(FileChanged, match="Bytes in the queue"):
            await store.put("wrong", msgspec.structs.replace(body, data=wrong))
    with pytest.raises(ObjectMissing):
        await store.head("wrong")


@pytest.mark.parametrize("size", [10, 3 << 20, SINGLE_PUT_BYTES + 1])
async def test_bytes_land_under_another_digest(
    store: ObjectStore, file_body: MakeBody, size: int
) -> None:
    """A file that is not what its digest says raises, and no object comes of it."""
    body = file_body(bytes(size))
    changed = msgspec.structs.replace(body, sha256=hashlib.sha256(b"other").digest())
    with pytest.raises(FileChanged):
        await store.put("blob", changed)
    with pytest.raises(ObjectMissing):
        await store.head("blob")
    await store.put("blob", body)
    with pytest.raises(FileChanged):
        await store.put("blob", changed)
    assert await _digest_of(store, "blob") == body.sha256


@pytest.mark.parametrize("size", [10, 3 << 20, SINGLE_PUT_BYTES + 1])
async def test_a_file_that_shrank_or_went_lands(
    store: ObjectStore, file_body: MakeBody, size: int
) -> None:
    """A file that is shorter than it was, or gone, raises, and no object comes of it."""
    body = file_body(os.urandom(size))
    os.truncate(body.path, size - 1)
    with pytest.raises(FileChanged):
        await store.put("blob", body)
    Path(body.path).unlink()
    with pytest.raises(FileChanged):
        await store.put("blob", body)
    assert [stat async for stat in store.list("")] == []


class Changing:
    """A file of three parts, hashed, that changes when it is told to, or when so much of it has left."""

    def __init__(self, body: FileBody, after_bytes: int) -> None:
        self._path = Path(body.path)
        self._after_bytes = after_bytes
        ledger = MemoryLedger()
        ledger.kept = make_sums(body, part_bytes(body.size), Crc32c())
        self.body = msgspec.structs.replace(body, told=self.told, ledger=ledger)

    def told(self, left_bytes: int) -> None:
        """Change it, if so much has left: no part is read to its end then."""
        if left_bytes >= self._after_bytes:
            self.change()

    def change(self) -> None:
        """Change it in the middle of the last part; size and all else stay."""
        with self._path.open("r+b") as file:
            file.seek(-PART_BYTES // 4, os.SEEK_END)
            file.write(b"changed")


@pytest.mark.parametrize(
    "kind", ["s3", pytest.param("moto", marks=pytest.mark.xdist_group("moto")), "google"]
)
@pytest.mark.parametrize("is_known", [True, False], ids=["known server", "new server"])
@pytest.mark.parametrize("is_late", [True, False], ids=["while it is sent", "before"])
async def test_a_part_lands_that_is_not_what_was_hashed(
    store: ObjectStore, file_body: MakeBody, is_known: bool, is_late: bool
) -> None:
    """A big file that changes after its parts were hashed, before or while they are sent, raises, and is no
    object: who finds it out is a server that has said that it compares, or we.
    """
    if is_known:
        await store.put("first", file_body(b"x"))
    content = os.urandom(1 << 16) * (5 * PART_BYTES // 2 >> 16)
    changing = Changing(file_body(content), 1 << 20 if is_late else len(content))
    if not is_late:
        changing.change()
    with pytest.raises(FileChanged):
        await store.put("big", changing.body)
    assert [stat.key async for stat in store.list("")] == ["first"] * is_known


async def test_a_file_that_grew_is_sent_longer(store: ObjectStore, file_body: MakeBody) -> None:
    """Bytes that were appended since are no part of the body."""
    body = file_body(b"as it was")
    with open(body.path, "ab") as file:
        file.write(b", and more")
    await store.put("blob", body)
    assert (await store.get("blob")).body == b"as it was"


async def test_an_object_changes_with_the_file(store: ObjectStore, file_body: MakeBody) -> None:
    """What was put shares no bytes with the file that it came from."""
    body = file_body(b"before" * 1000)
    await store.put("blob", body)
    with open(body.path, "r+b") as file:
        file.write(b"AFTER!")
    assert await _digest_of(store, "blob") == body.sha256


async def test_a_sparse_file_loses_its_holes(store: ObjectStore, tmp_path: Path) -> None:
    """Holes arrive as zeros, at the end, too."""
    path = tmp_path / "sparse"
    with path.open("wb") as file:
        file.seek(5 << 20)
        file.write(b"island")
        file.truncate(9 << 20)
    content = path.read_bytes()
    sha256 = hashlib.sha256(content).digest()
    await store.put("blob", FileBody(path=str(path), offset=0, size=len(content), sha256=sha256))
    assert await _digest_of(store, "blob") == sha256


# ── packs ──────────────────────────────────────────────────────────────────────────────────────
def _pack(*files: FileBody, told: list[int] | None = None) -> PackBody:
    whole = hashlib.sha256()
    for file in files:
        with open(file.path, "rb") as opened:
            opened.seek(file.offset)
            whole.update(opened.read(file.size))
    size = sum(file.size for file in files)
    tell = tell_nobody if told is None else told.append
    return PackBody(files, size, whole.digest(), tell, joined(files))


async def test_a_pack_arrives_otherwise(store: ObjectStore, file_body: MakeBody, kind: str) -> None:
    """Files, and stretches of files, of all sizes land back to back; as much is told as has left."""
    content = os.urandom(1 << 20)
    files = [file_body(content, 3 * n, size) for n, size in enumerate((0, 1, 7, 4096, 1 << 19) * 4)]
    shared = file_body(os.urandom(5 << 20))
    for start in range(0, 5 << 20, 900_000):
        part = content_of(shared)[start:][:900_000]
        sha256 = hashlib.sha256(part).digest()
        files.append(FileBody(shared.path, start, len(part), sha256))
    told: list[int] = []
    body = _pack(*files, told=told)
    await store.put("pack", body)
    assert (await store.head("pack")).size == body.size
    assert await _digest_of(store, "pack") == body.sha256
    if kind != "memory":
        assert told[0] == 0 and sorted(told) == told and told[-1] <= body.size


def content_of(body: FileBody) -> bytes:
    """The bytes of a body."""
    return Path(body.path).read_bytes()[body.offset :][: body.size]


@pytest.mark.parametrize("how", ["other bytes", "cut", "gone"])
async def test_a_changed_file_lands_in_a_pack(
    store: ObjectStore, file_body: MakeBody, how: str
) -> None:
    """A pack one of whose files is not what it was raises, names that file, and leaves nothing."""
    files = [file_body(os.urandom(1000)) for _ in range(5)]
    body = _pack(*files)
    path = Path(files[3].path)
    match how:
        case "other bytes":
            path.write_bytes(os.urandom(1000))
        case "cut":
            os.truncate(path, 999)
        case "gone":
            path.unlink()
    with pytest.raises(FileChanged, match=path.name):
        await store.put("pack", body)
    assert [stat async for stat in store.list("")] == []
