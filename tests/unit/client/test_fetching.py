"""References to servers come through the daemon, also through one that ends in the middle."""

from __future__ import annotations

import base64
import hashlib
import os
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import pytest

from tests.unit.client.recorder import Recorder, Refusal
from wherry import cut_off, fetching
from wherry.errors import CommError, ReferenceFailed
from wherry.stored import StoredEntry
from wherry.wire import wherry_pb2 as pb

FILES = {"a": b"small", "big": os.urandom(50_000), "c": b"", "d": os.urandom(3_000)}
HASHES = ("md5", "sha1", "sha256", "sha512")
_PIECE = 1000


class Reading:
    """How daemons read ``FILES``, one after the other.

    Args:
        cuts: after how many pieces each of them ends; the one after the last does not.
        goes_on: whether they can begin in the middle.
    """

    def __init__(self, recorder: Recorder, cuts: list[int], *, goes_on: bool = True) -> None:
        self.cuts = cuts
        self.goes_on = goes_on
        self.asked: list[list[tuple[str, int]]] = []
        self.errors: dict[str, str] = {}
        recorder.read_references = self.read  # type: ignore[attr-defined]

    def read(self, request: pb.ReadReferencesRequest) -> Iterator[pb.FileChunk]:
        self.asked.append([(seen.path, seen.start) for seen in request.references])
        left = self.cuts.pop(0) if self.cuts else None
        for seen in request.references:
            for chunk in self._pieces(seen):
                if left == 0:
                    raise Refusal("ConnectionLost")
                left = None if left is None else left - 1
                yield chunk

    def _pieces(self, seen: pb.SeenReference) -> Iterator[pb.FileChunk]:
        if seen.path in self.errors:
            reason = self.errors[seen.path]
            yield pb.FileChunk(path=seen.path, error="ReferenceFailed", reason=reason, last=True)
            return
        begin, path = (seen.start if self.goes_on else 0), seen.path
        data, start = FILES[seen.path], begin
        while begin < len(data):
            yield pb.FileChunk(path=path, start=start, data=data[begin : begin + _PIECE])
            begin, path, start = begin + _PIECE, "", 0
        yield pb.FileChunk(path=path, start=start, last=True)


def entries(
    digest: str | None = "etag:e", sums: Callable[[bytes], Sequence[str]] = lambda _: ()
) -> dict[str, StoredEntry]:
    return {
        path: StoredEntry(digest, len(data), f"http://h/{path}", None, tuple(sums(data)))
        for path, data in FILES.items()
    }


def all_sums(data: bytes) -> list[str]:
    """Every checksum that is looked at, and one that is not."""
    made = [f"{name}:{hashlib.new(name, data).hexdigest()}" for name in HASHES]
    crc = base64.b64encode(zlib.crc32(data).to_bytes(4, "big")).decode()
    return [f"crc32:{crc}", "crc64nvme:AAAAAAAAAAA=", *made]


def fetch(home: Path, wanted: Mapping[str, StoredEntry]) -> tuple[dict[str, bytes], dict[str, str]]:
    """What was written, whole; and what could not be had."""
    written: dict[str, bytes] = {}

    def write(path: str, data: Iterator[bytes]) -> None:
        written[path] = b"".join(data)

    failed = dict(fetching.fetch(home, wanted, write))  # type: ignore[arg-type]
    return written, {path: str(error) for path, error in failed.items()}


@pytest.mark.parametrize("goes_on", [True, False], ids=["goes on", "begins anew"])
def test_cut_reference_differs(recorder: Recorder, *, goes_on: bool) -> None:
    """The rest of a reference is asked of the next daemon; one that can't go on gives all again."""
    reading = Reading(recorder, [12, 7, 3], goes_on=goes_on)
    assert fetch(recorder.home, entries()) == (FILES, {})
    assert reading.asked[0] == [(path, 0) for path in FILES]
    assert reading.asked[1][0] == ("big", 10_000)
    assert [path for path, start in reading.asked[1] if start == 0] == ["c", "d"]
    starts = [asked[0][1] for asked in reading.asked]
    assert starts == sorted(starts)


def test_unknown_reference_goes_on_in_the_middle(recorder: Recorder) -> None:
    """What no checksum tells apart is written anew."""
    reading = Reading(recorder, [12])
    assert fetch(recorder.home, entries(digest=None)) == (FILES, {})
    assert reading.asked[1] == [("big", 0), ("c", 0), ("d", 0)]


def test_change_meanwhile_is_written(recorder: Recorder) -> None:
    """A reference that has changed when the rest is asked for is told of, and not written."""
    reading = Reading(recorder, [12])

    def written_until_changed(path: str, data: Iterator[bytes]) -> None:
        for _ in data:
            reading.errors["big"] = "it has changed"

    failed = dict(
        fetching.fetch(recorder.home, {"big": entries()["big"]}, written_until_changed)  # type: ignore[arg-type]
    )
    assert isinstance(failed["big"], ReferenceFailed)
    assert "it has changed" in str(failed["big"])


def test_daemon_that_always_ends_is_asked_for_ever(
    recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where no daemon gives anything more, it is an error; the file is not called whole."""
    monkeypatch.setattr(cut_off, "LIMIT_S", 0.0)
    Reading(recorder, [12] + [0] * 50)
    written: list[str] = []

    def write(path: str, data: Iterator[bytes]) -> None:
        for _ in data:
            pass
        written.append(path)

    with pytest.raises(CommError, match="ended 4 times"):
        list(fetching.fetch(recorder.home, entries(), write))  # type: ignore[arg-type]
    assert written == ["a"]


# ── checksums ──────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize("goes_on", [True, False], ids=["goes on", "begins anew"])
def test_good_bytes_are_refused(recorder: Recorder, *, goes_on: bool) -> None:
    """Bytes of which the recorded checksums are right are written, also those that come in two answers."""
    Reading(recorder, [12, 7, 3], goes_on=goes_on)
    assert fetch(recorder.home, entries(sums=all_sums)) == (FILES, {})


@pytest.mark.parametrize("name", ["crc32", *HASHES])
def test_other_bytes_are_written(recorder: Recorder, name: str) -> None:
    """Bytes of another checksum are an error that names both, of that reference alone."""
    Reading(recorder, [])

    def sums(data: bytes) -> list[str]:
        was = all_sums(b"other" if data == FILES["big"] else data)
        return [each for each in was if each.startswith(f"{name}:")]

    written, failed = fetch(recorder.home, entries(sums=sums))
    assert written == {path: data for path, data in FILES.items() if path != "big"}
    (was,), (now,) = sums(FILES["big"]), sums_of(FILES["big"], name)
    said = f"its {name} was {was.partition(':')[2]} and is {now.partition(':')[2]}"
    assert f"http://h/big has changed since it was logged: {said}" in failed["big"]
    assert list(failed) == ["big"]


def sums_of(data: bytes, name: str) -> list[str]:
    return [each for each in all_sums(data) if each.startswith(f"{name}:")]


def test_check_misses_bytes(recorder: Recorder) -> None:
    """Where only the server is asked there are no bytes to compare."""
    Reading(recorder, [])
    wanted = entries(sums=lambda _: all_sums(b"whatever"))
    assert list(fetching.check(recorder.home, {"c": wanted["c"]})) == []
