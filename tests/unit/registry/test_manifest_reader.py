from __future__ import annotations

import tracemalloc
from collections.abc import AsyncIterator

import msgspec
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.registry import example
from wherry.errors import StoreDamaged
from wherryd.model import ManifestEntry
from wherryd.registry.lines import LINE_LIMIT_BYTES
from wherryd.registry.manifest_reader import ManifestReader, read_manifest

LINE = msgspec.json.encode(example.LINES[3])
FIELDS = msgspec.json.decode(LINE)
HEX = "ab" * 32


def pack(plain: bytes) -> bytes:
    """Compress as a writer does, without saying how long the plain bytes are."""
    packer = zstandard.ZstdCompressor(write_content_size=False, write_checksum=True).compressobj()
    return packer.compress(plain) + packer.flush()


def read(body: bytes, manifest: str) -> list[ManifestEntry]:
    """Read a manifest that arrives in one chunk."""
    reader = ManifestReader(manifest, "some/key")
    entries = [entry for batch in reader.feed(body) for entry in batch]
    return entries + reader.end()


def test_a_manifest_of_any_compressor_is_read() -> None:
    """The plain bytes count: another level, a frame with its size, blanks in the lines."""
    plain = (
        b'{"path": "a", "digest": "%s", "size": 1, "later": {}}\n' % example.digest(b"").encode()
    )
    for body in (pack(plain), zstandard.ZstdCompressor(level=19).compress(plain)):
        assert [entry.path for entry in read(body, example.digest(plain))] == ["a"]


def test_an_empty_manifest_has_no_entries() -> None:
    """A version without entries is a version."""
    assert read(pack(b""), example.digest(b"")) == []


@pytest.mark.parametrize(
    "fields",
    [
        {"path": ""},
        {"path": "/etc/passwd"},
        {"path": "../a"},
        {"path": "a/../../b"},
        {"path": "a//b"},
        {"path": "a/"},
        {"path": "./a"},
        {"path": "a\0b"},
        {"path": 7},
        {"size": -1},
        {"size": None},
        {"size": 1.5},
        {"digest": None},
        {"digest": f"sha256:{HEX.upper()}"},
        {"digest": "sha256:../../../../etc/passwd"},
        {"pack": HEX},
        {"offset": 0},
        {"pack": "../../../x", "offset": 0},
        {"pack": HEX, "offset": -1},
        {"version": "x"},
        {"ref": ""},
        {"ref": "s3://b/a", "digest": "no checksum"},
        {"ref": "s3://b/a", "digest": None, "version": "x"},
        {"ref": "s3://b/a", "pack": HEX, "offset": 0},
    ],
)
def test_a_line_that_can_not_be_is_damage(fields: dict[str, object]) -> None:
    """What would be written or fetched for an entry is checked first, by whoever it was made."""
    plain = msgspec.json.encode({**FIELDS, **fields}) + b"\n"
    with pytest.raises(StoreDamaged, match="some/key"):
        read(pack(plain), example.digest(plain))


@pytest.mark.parametrize(
    "plain",
    [
        LINE,
        LINE + b"\n" + LINE + b"\n",
        LINE.replace(b"model", b"z") + b"\n" + LINE + b"\n",
        b"\n",
        LINE + b"\n\n",
        b"{}\n",
        b"[]\n",
        b"null\n",
        b"x\n",
        b"\xff\n",
        b'{"path":"\xff"}\n',
        LINE[:-1] + b"\n}\n",
        b"[" * 100_000 + b"\n",
    ],
)
def test_plain_bytes_that_are_no_lines_are_damage(plain: bytes) -> None:
    """Wrong order, no line feed, blank lines and what is not JSON are refused."""
    with pytest.raises(StoreDamaged, match="some/key"):
        read(pack(plain), example.digest(plain))


def test_another_manifest_is_damage() -> None:
    """A good manifest under another's key is not it."""
    with pytest.raises(StoreDamaged, match="plain bytes"):
        read(pack(LINE + b"\n"), example.digest(b""))


@pytest.mark.parametrize("plain", [b"", LINE + b"\n"])
def test_a_cut_manifest_is_damage(plain: bytes) -> None:
    """No beginning of a manifest passes for the whole, be it only the frame's end that is missing."""
    body = pack(plain)
    for end in range(len(body)):
        with pytest.raises(StoreDamaged):
            read(body[:end], example.digest(plain))


@pytest.mark.parametrize("more", [b"x", pack(b""), pack(LINE + b"\n"), b"x" * 1000])
def test_bytes_after_the_frame_are_damage(more: bytes) -> None:
    """A manifest is one frame."""
    with pytest.raises(StoreDamaged, match="follow"):
        read(pack(LINE + b"\n") + more, example.digest(LINE + b"\n"))


def test_bytes_in_a_later_chunk_are_damage() -> None:
    """That the frame has ended is known when the next chunk comes."""
    reader = ManifestReader(example.digest(LINE + b"\n"), "key")
    list(reader.feed(pack(LINE + b"\n")))
    with pytest.raises(StoreDamaged, match="follow"):
        list(reader.feed(b"x"))


@given(st.data())
def test_changed_bytes_never_pass(data: st.DataObject) -> None:
    """Any bytes give the manifest or StoreDamaged, and nothing else."""
    plain = example.plain_manifest()
    body = bytearray(pack(plain))
    at = data.draw(st.integers(0, len(body) - 1))
    body[at] ^= data.draw(st.integers(1, 255))
    try:
        assert read(bytes(body), example.digest(plain)) == example.LINES
    except StoreDamaged:
        pass


@pytest.mark.parametrize("byte", [b"a", b" ", b"\n", b"["])
def test_a_bomb_takes_little_memory(byte: bytes) -> None:
    """A few KiB that unpack to 200 MB are refused with a few MiB of memory."""
    bomb = pack(byte * 200_000_000)
    assert len(bomb) < 30_000
    tracemalloc.start()
    try:
        with pytest.raises(StoreDamaged):
            read(bomb, example.digest(b""))
        assert tracemalloc.get_traced_memory()[1] < 32_000_000
    finally:
        tracemalloc.stop()


def test_a_window_that_takes_much_memory_is_damage() -> None:
    """A frame may not ask for more memory than 8 MiB."""
    parameters = zstandard.ZstdCompressionParameters(window_log=27)
    packer = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    with pytest.raises(StoreDamaged, match="memory"):
        read(packer.compress(LINE + b"\n") + packer.flush(), example.digest(LINE + b"\n"))


def test_a_line_of_the_greatest_length_is_read() -> None:
    """The limit is the same for writers and readers, wherever the line stands."""
    short = msgspec.json.encode({**FIELDS, "path": "a"})
    for length, good in ((LINE_LIMIT_BYTES, True), (LINE_LIMIT_BYTES + 1, False)):
        room = length - len(msgspec.json.encode({**FIELDS, "path": ""}))
        plain = short + b"\n" + msgspec.json.encode({**FIELDS, "path": "b" * room}) + b"\n"
        plain += msgspec.json.encode({**FIELDS, "path": "c"}) + b"\n"
        if good:
            assert len(read(pack(plain), example.digest(plain))) == 3
        else:
            with pytest.raises(StoreDamaged, match="longer"):
                read(pack(plain), example.digest(plain))


async def test_entries_come_while_bytes_arrive() -> None:
    """Reading starts before the whole manifest is there."""
    fields = [{**FIELDS, "path": f"{at:06d}"} for at in range(5_000)]
    plain = b"".join(msgspec.json.encode(line) + b"\n" for line in fields)
    body, given_out = pack(plain), 0

    async def chunks() -> AsyncIterator[bytes]:
        nonlocal given_out
        for start in range(0, len(body), 1_000):
            given_out += 1
            yield body[start : start + 1_000]

    entries = [entry.path async for entry in read_manifest(chunks(), example.digest(plain), "key")]
    assert entries == [line["path"] for line in fields]
    first = read_manifest(chunks(), example.digest(plain), "key")
    given_out = 0
    assert (await anext(first)).path == "000000"
    assert 0 < given_out < len(body) / 1_000
