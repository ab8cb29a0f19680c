"""What every store does alike: reading, writing, deleting."""

from __future__ import annotations

import random
import unicodedata
from collections.abc import Callable
from functools import partial

import pytest

from wherry.errors import StoreDamaged
from wherryd.stores.base import FileBody, Found, ObjectMissing, ObjectStore, Sizes
from wherryd.together import all_of

KEYS = {
    "plain": "a/b/c.json",
    "space": "with space/ and more .txt",
    "plus": "a+b/c+d",
    "percent": "100%/%2F/%25",
    "encoded-looking": "a%20b",
    "ampersand": "a&b=c?d#e;f",
    "quotes": 'it\'s "quoted"',
    "xml": "<a>&amp;</a>]]>",
    "composed": unicodedata.normalize("NFC", "é/ü.txt"),
    "decomposed": unicodedata.normalize("NFD", "é/ü.txt"),
    "far": "日本語/😀",
    "hidden": ".hidden/.file",
    "tilde": "~a/b~",
    "colon": "a:b/c:d",
    "long": "/".join(["n" * 240] * 3),
}


@pytest.mark.parametrize("key", KEYS.values(), ids=KEYS.keys())
async def test_a_key_is_mangled(store: ObjectStore, key: str) -> None:
    """A key reads, lists and deletes as the very same key."""
    await store.put(key, b"bytes")
    assert (await store.get(key)).body == b"bytes"
    assert (await store.head(key)).key == key
    folder = key.rpartition("/")[0] + "/" if "/" in key else ""
    assert [stat.key async for stat in store.list(folder)] == [key]
    assert [stat.key async for stat in store.list("")] == [key]
    await store.delete(key)
    with pytest.raises(ObjectMissing):
        await store.head(key)


async def test_keys_that_look_alike_share_an_object(store: ObjectStore) -> None:
    """Two forms of one letter, and a name beside its encoded form, are two objects each."""
    keys = ["a b", "a+b", "a%20b", "a%2520b", KEYS["composed"], KEYS["decomposed"], "A b"]
    for key in keys:
        await store.put(key, key.encode())
    for key in keys:
        assert (await store.get(key)).body == key.encode()


async def test_what_is_read_differs_from_what_was_put(store: ObjectStore) -> None:
    """``get`` and ``head`` tell the same of an object, and that is what was put."""
    await store.put("some/key", b"four")
    found = await store.get("some/key")
    assert found.body == b"four"
    assert found.stat.key == "some/key"
    assert found.stat.size == 4
    assert found.stat.etag
    assert found.stat.modified > 1_600_000_000
    head = await store.head("some/key")
    assert (head.key, head.size, head.etag) == ("some/key", 4, found.stat.etag)
    listed = [stat async for stat in store.list("some/")]
    assert [(stat.key, stat.size, stat.etag) for stat in listed] == [
        ("some/key", 4, found.stat.etag)
    ]
    assert abs(listed[0].modified - found.stat.modified) < 2


async def test_a_missing_key_reads_as_something(store: ObjectStore) -> None:
    """Every way to read a key that is not there raises ``ObjectMissing``."""
    await store.put("there/is", b"something else")
    for key in ("there/is/not", "there", "nowhere", "not/even/a/folder"):
        with pytest.raises(ObjectMissing):
            await store.get(key)
        with pytest.raises(ObjectMissing):
            await store.head(key)
        with pytest.raises(ObjectMissing):
            await anext(aiter(store.stream(key)))
        with pytest.raises(ObjectMissing):
            await anext(aiter(store.stream(key, 3, 0)))
        for offset, size in ((0, None), (3, 0), (3, 7)):
            with pytest.raises(ObjectMissing):
                await _poured(store, key, offset, size)


async def test_a_put_leaves_the_old_bytes(store: ObjectStore) -> None:
    """``put`` replaces, and the ETag changes with the bytes."""
    await store.put("key", b"old")
    before = await store.head("key")
    await store.put("key", b"newer")
    after = await store.get("key")
    assert after.body == b"newer"
    assert after.stat.etag != before.etag


async def test_an_empty_object_is_no_object(
    store: ObjectStore, file_body: Callable[..., FileBody]
) -> None:
    """Objects of no bytes are objects."""
    await store.put("bytes", b"")
    await store.put("file", file_body(b""))
    await store.put_if_absent("created", b"")
    for key in ("bytes", "file", "created"):
        assert (await store.get(key)).body == b""
        assert (await store.head(key)).size == 0
        assert [chunk async for chunk in store.stream(key)] == []
        assert await _poured(store, key) == b""


async def test_deleting_twice_fails(store: ObjectStore) -> None:
    """``delete`` of what is not there is no error."""
    await store.put("folder/key", b"x")
    await store.delete("folder/key")
    await store.delete("folder/key")
    await store.delete("never/was")
    with pytest.raises(ObjectMissing):
        await store.get("folder/key")
    assert [stat async for stat in store.list("")] == []


RANGES = {
    "all": (0, None),
    "from": (3, None),
    "some": (2, 4),
    "first": (0, 1),
    "last": (9, 1),
    "none": (4, 0),
    "at the end": (10, None),
    "beyond": (11, None),
}


@pytest.mark.parametrize(("offset", "size"), RANGES.values(), ids=RANGES.keys())
async def test_a_range_gives_other_bytes(store: ObjectStore, offset: int, size: int | None) -> None:
    """``stream`` and ``stream_to`` give the bytes asked for, and none more."""
    await store.put("key", b"0123456789")
    wanted = b"0123456789"[offset : None if size is None else offset + size]
    assert b"".join([chunk async for chunk in store.stream("key", offset, size)]) == wanted
    assert await _poured(store, "key", offset, size) == wanted


@pytest.mark.parametrize(("offset", "size"), [(0, 11), (8, 3), (10, 1), (20, 5)])
async def test_a_short_object_passes_for_whole(store: ObjectStore, offset: int, size: int) -> None:
    """``stream`` and ``stream_to`` raise ``StoreDamaged`` if the object ends before the range does."""
    await store.put("key", b"0123456789")
    with pytest.raises(StoreDamaged):
        async for _ in store.stream("key", offset, size):
            pass
    with pytest.raises(StoreDamaged):
        await _poured(store, "key", offset, size)


async def test_a_broken_off_stream_holds_its_connection(store: ObjectStore) -> None:
    """Many streams that are left after their first chunk leave a store that works."""
    await store.put("key", bytes(3 << 20))
    for _ in range(30):
        stream = store.stream("key")
        async for _chunk in stream:
            break
        await stream.aclose()  # type: ignore[attr-defined]
    assert (await store.head("key")).size == 3 << 20


async def test_much_comes_in_another_order(store: ObjectStore) -> None:
    """``stream_to`` gives large stretches side by side, each in order; a sink that raises ends its own."""
    content = random.Random(4).randbytes(3 << 20)
    await store.put("key", content)
    stretches = [(0, None), (1, 2 << 20), (1 << 20, 2 << 20), (3, 1 << 20)]
    found = await all_of(*(partial(_poured, store, "key", *each) for each in stretches))
    assert found == [content[at : None if n is None else at + n] for at, n in stretches]

    def refuse(_: memoryview) -> None:
        raise LookupError("no more")

    for _ in range(30):
        with pytest.raises(LookupError, match="no more"):
            await store.stream_to("key", 0, None, refuse)
    assert await _poured(store, "key", 5, 9) == content[5:14]


async def _poured(store: ObjectStore, key: str, offset: int = 0, size: int | None = None) -> bytes:
    """What a sink was given, copied in time."""
    found = bytearray()
    await store.stream_to(key, offset, size, found.extend)
    return bytes(found)


async def test_syncing_breaks_something(
    store: ObjectStore, file_body: Callable[..., FileBody]
) -> None:
    """``sync`` of what was put changes nothing that can be read."""
    keys = [f"blobs/{number % 3}/{number}" for number in range(12)]
    for key in keys:
        await store.put(key, file_body(key.encode()))
    for some in (keys, keys, []):
        assert await store.sync(some, keys[0]) == Found(keys[0].encode())
    assert sorted([stat.key async for stat in store.list("blobs/")]) == sorted(keys)


async def test_objects_are_read_apart(store: ObjectStore) -> None:
    """``get_all`` gives the objects that are there; ``sync`` reads its witness or says that there is none."""
    await store.put("a/there", b"x")
    assert await store.get_all(["id", "a/not", "b/c"]) == {}
    assert await store.get_all([]) == {}
    assert (await store.sync(["a/there"], "id")).witness is None
    await store.put_if_absent("id", b"one")
    found = await store.get_all(["id", "a/not", "a/there"])
    assert found == {key: await store.get(key) for key in ("id", "a/there")}
    assert await store.sync(["a/there"], "id") == Found(b"one")


async def test_an_object_looks_there_that_is_not(store: ObjectStore) -> None:
    """``sizes`` tells how large those of the keys are that are there, and reads its witness."""
    await store.put("a/there", b"xyz")
    await store.put("a/below/empty", b"")
    keys = ["a/there", "a/not", "a/below/empty", "none/at/all", "a/there/below"]
    there = {"a/there": 3, "a/below/empty": 0}
    assert await store.sizes(keys, "id") == Sizes(None, there)
    assert await store.sizes([], "id") == Sizes(None, {})
    await store.put_if_absent("id", b"one")
    await store.delete("a/there")
    assert await store.sizes(keys, "id") == Sizes(b"one", {"a/below/empty": 0})
