"""Bytes that came with their request: they lie in the queue, and go to the store from there."""

from __future__ import annotations

import pytest

from tests.unit.daemon.bench import Bench, digest
from wherry.errors import ProtocolError
from wherry.wire import wherry_pb2 as pb
from wherryd.model import Entry, Source, State
from wherryd.queue.base import Filter
from wherryd.rpc.messages import MAX_DATA_BYTES, entry_of


def _data(path: str, data: bytes) -> Entry:
    return Entry(path, len(data), digest(data), Source("", data=data))


def _place_of(name: str) -> str:
    return f"/spool/{name}"


def test_digest_of_the_bytes_is_left_to_others() -> None:
    """An entry that brings its bytes has its digest at once."""
    entry = entry_of(pb.Entry(path="a", size=3, data=b"abc"), _place_of)
    assert entry == _data("a", b"abc")
    assert entry_of(pb.Entry(path="a", data=b""), _place_of) == _data("a", b"")
    captured = pb.Entry(path="a", size=3, captured=pb.Captured(file="x"))
    assert entry_of(captured, _place_of).digest is None


@pytest.mark.parametrize(
    ("size", "data"), [(2, b"abc"), (4, b"abc"), (MAX_DATA_BYTES + 1, bytes(MAX_DATA_BYTES + 1))]
)
def test_bytes_of_another_size_are_taken(size: int, data: bytes) -> None:
    """Bytes are as many as the entry says, and not more than the queue should hold."""
    with pytest.raises(ProtocolError):
        entry_of(pb.Entry(path="a", size=size, data=data), _place_of)


async def test_bytes_in_the_queue_come_late(bench: Bench) -> None:
    """They travel alone as a blob, together as a pack, and beside files of the spool; each is read back
    from the queue as it came.
    """
    bench.preparer()
    bench.transferrer()
    wanted = {
        "alone": {"only": b"one"},
        "both": {"a": b"first", "b": b"", "c": b"third"},
        "mixed": {"a": b"first", "b": b"other", "big": bytes(2 << 20), "z": b"last"},
    }
    for name, files in wanted.items():
        spooled = {path: data for path, data in files.items() if path in ("b", "big")}
        brought = [_data(path, data) for path, data in files.items() if path not in spooled]
        logged = spooled if name == "mixed" else {}
        brought = brought if name == "mixed" else [_data(*each) for each in files.items()]
        request = await bench.log(logged, name=name, entries=tuple(brought))
        in_queue = [each for each in await bench.queue.entries(request.row) if each in brought]
        assert in_queue == brought
        done = await bench.wait_state(request, State.UPLOADED)
        assert done.manifest is not None
        registry, read = bench.registry(), {}
        async for line in registry.open_manifest("cats", done.manifest):
            read[line.path] = b"".join([x async for x in registry.open_entry("cats", line)])
        assert read == files
    assert len(await bench.queue.find(Filter())) == 3
