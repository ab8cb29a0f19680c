"""A large file that is copied while it comes: nothing but the file that came in the end gets its name."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import wherry
from tests.support.machine import wait_until
from tests.unit.client.recorder import Recorder, Refusal
from tests.unit.client.test_download import digest, files_below, put
from wherry import ahead, errors, taking
from wherry.wire import wherry_pb2 as pb

LARGE = os.urandom(3_000_000)
OTHER = os.urandom(3_000_000)
NAME = digest(LARGE)[7:]


@pytest.fixture
def partial(tmp_path: Path) -> Path:
    """Where the daemon lets it arrive."""
    folder = tmp_path / "cache"
    folder.mkdir()
    return folder / "partial"


@pytest.fixture(autouse=True)
def _no_reflinks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever disk the tests run on."""
    monkeypatch.setattr(ahead, "can_share", lambda *_: False)


def _begun(tmp_path: Path) -> list[Path]:
    return list((tmp_path / "there" / "deep").glob("*"))


def _coming(partial: Path, there: int, path: str = "deep/large") -> pb.FetchReply:
    return pb.FetchReply(coming=pb.ComingFile(path=path, file=str(partial), bytes=there))


def _is_here(partial: Path, *, checked: bool = True) -> pb.FetchReply:
    file = str(partial.with_name(NAME))
    return pb.FetchReply(files=[pb.FetchedFile(path="deep/large", file=file, checked=checked)])


def _says(recorder: Recorder, *steps: Callable[[], pb.FetchReply]) -> None:
    """Have the daemon do and say this, one after the other."""
    put(recorder, {"deep/large": LARGE, "small": b"s"})
    last = (
        lambda: pb.FetchReply(files=[pb.FetchedFile(path="small", data=b"s")]),
        lambda: pb.FetchReply(last=True),
    )

    def replies(request: pb.FetchFilesRequest) -> Iterator[pb.FetchReply]:
        recorder.asked_places.append(request)
        for step in (*steps, *last):
            yield step()

    recorder.fetch_files = replies  # type: ignore[method-assign]


def _get(tmp_path: Path) -> dict[str, bytes]:
    wherry.Api({"project": "cats"}).artifact("data:v0").download(tmp_path / "there")
    return files_below(tmp_path / "there")


@pytest.fixture
def usual(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The files that were written the usual way, after they had come."""
    taken, take_one = list[str](), taking._take_one

    def note(file: pb.FetchedFile, *args: object) -> bool:
        taken.append(file.path)
        return take_one(file, *args)  # type: ignore[arg-type]

    monkeypatch.setattr(taking, "_take_one", note)
    return taken


def test_a_file_is_copied_when_it_is_here(
    recorder: Recorder, partial: Path, tmp_path: Path, usual: list[str]
) -> None:
    """What is there is copied at once, the rest at the end; until then nothing has the file's name."""

    def arrive(there: int) -> pb.FetchReply:
        assert not (tmp_path / "there" / "deep" / "large").exists()
        partial.write_bytes(LARGE[:there] + bytes(len(LARGE) - there + 3))
        return _coming(partial, there)

    def is_copied() -> bool:
        copied = [path.read_bytes()[:2_000_000] for path in _begun(tmp_path)]
        return copied == [LARGE[:2_000_000]]

    def end() -> pb.FetchReply:
        wait_until(is_copied)
        with partial.open("r+b") as file:
            file.write(LARGE)
            file.truncate(len(LARGE))
        partial.rename(partial.with_name(NAME))
        return _is_here(partial)

    _says(
        recorder,
        lambda: arrive(1_000_000),
        lambda: _arrive_more(partial, 2_000_000),
        lambda: _coming(partial, 2_000_000),
        end,
    )
    assert _get(tmp_path) == {"deep/large": LARGE, "small": b"s"}
    assert usual == ["small"]
    assert recorder.asked_files == []


def _arrive_more(partial: Path, there: int) -> pb.FetchReply:
    with partial.open("r+b") as file:
        file.write(LARGE[:there])
    return _coming(partial, there)


@pytest.mark.parametrize("found", ["begun anew", "other", "unchecked", "nowhere", "longer", "gone"])
def test_what_was_begun_anew_is_gone_on_with(
    recorder: Recorder, partial: Path, tmp_path: Path, usual: list[str], found: str
) -> None:
    """What was copied of another file than the one in the end is dropped, and all is copied as usual."""

    def arrive() -> pb.FetchReply:
        partial.write_bytes(OTHER if found != "longer" else LARGE + b"x")
        return _coming(partial, 2_000_000)

    def end() -> pb.FetchReply:
        here = _is_here(partial, checked=found != "unchecked")
        wait_until(lambda: _begun(tmp_path))
        match found:
            case "nowhere":
                here.files[0].file = ""
            case "longer":
                partial.rename(partial.with_name(NAME))
            case "gone":
                pass
            case _:
                partial.with_name(NAME).write_bytes(LARGE)
        return here

    def again() -> pb.FetchReply:
        if found == "begun anew":
            wait_until(lambda: _begun(tmp_path))
            partial.unlink()
            partial.write_bytes(LARGE)
            return _coming(partial, 2_500_000)
        return pb.FetchReply()

    _says(recorder, arrive, again, end)
    assert _get(tmp_path) == {"deep/large": LARGE, "small": b"s"}
    assert usual == ["deep/large", "small"]
    assert len(recorder.asked_files) == (found in ("nowhere", "longer", "gone"))


@pytest.mark.parametrize("odd", ["gone", "folder", "fifo", "short", "another's"])
def test_a_file_that_cant_be_read_ahead_is_the_end(
    recorder: Recorder, partial: Path, tmp_path: Path, usual: list[str], odd: str
) -> None:
    """Where nothing can be copied ahead, all is copied in the end."""

    def arrive() -> pb.FetchReply:
        match odd:
            case "folder":
                partial.mkdir(exist_ok=True)
            case "fifo":
                partial.exists() or os.mkfifo(partial)
            case "short":
                partial.write_bytes(LARGE[:5])
        path = "no such path" if odd == "another's" else "deep/large"
        return _coming(partial, 2_000_000, path)

    def end() -> pb.FetchReply:
        partial.with_name(NAME).write_bytes(LARGE)
        return _is_here(partial)

    _says(recorder, arrive, arrive, end)
    assert _get(tmp_path) == {"deep/large": LARGE, "small": b"s"}
    assert usual == ["deep/large", "small"]


def test_shared_blocks_are_copied(
    recorder: Recorder,
    partial: Path,
    tmp_path: Path,
    usual: list[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Where blocks can be shared, nothing is copied ahead."""
    tried = list[int]()

    def share(source: int, target: int) -> bool:
        tried.append(os.fstat(source).st_size)
        return os.pwrite(target, b"some", 0) == 4

    monkeypatch.setattr(ahead, "can_share", share)
    monkeypatch.setattr(ahead, "copy_range", lambda *_: pytest.fail("it was copied"))
    partial.write_bytes(LARGE)

    def end() -> pb.FetchReply:
        partial.rename(partial.with_name(NAME))
        return _is_here(partial)

    def go_on() -> pb.FetchReply:
        wait_until(lambda: tried)
        return _coming(partial, 2_000_000)

    _says(recorder, lambda: _coming(partial, 1_000_000), go_on, end)
    assert _get(tmp_path) == {"deep/large": LARGE, "small": b"s"}
    assert (tried, usual) == ([len(LARGE)], ["deep/large", "small"])


def test_a_copy_goes_on_at_the_next_daemon(
    recorder: Recorder, partial: Path, tmp_path: Path, usual: list[str]
) -> None:
    """A daemon that dies, and whose successor goes on with its file, costs nothing of the copy."""
    partial.write_bytes(LARGE)
    asked = recorder.asked_places

    def end() -> pb.FetchReply:
        if len(asked) == 1:
            wait_until(lambda: _begun(tmp_path))
            raise Refusal("ConnectionLost")
        partial.rename(partial.with_name(NAME))
        return _is_here(partial)

    _says(recorder, lambda: _coming(partial, 2_000_000), end)
    assert _get(tmp_path) == {"deep/large": LARGE, "small": b"s"}
    assert len(asked) == 2
    assert usual == ["small"]


def test_half_a_file_stays(recorder: Recorder, partial: Path, tmp_path: Path) -> None:
    """An error in the middle leaves nothing of what was copied ahead, and no descriptor."""
    partial.write_bytes(OTHER)

    def fail() -> pb.FetchReply:
        raise Refusal("StoreDamaged")

    _says(recorder, lambda: _coming(partial, 2_000_000), fail)
    _fails(tmp_path)
    before = len(os.listdir("/proc/self/fd"))
    _fails(tmp_path)
    assert len(os.listdir("/proc/self/fd")) == before
    assert files_below(tmp_path / "there") == {}


def _fails(tmp_path: Path) -> None:
    with pytest.raises(errors.StoreDamaged):
        _get(tmp_path)


def test_a_path_leads_out_of_the_root(recorder: Recorder, partial: Path, tmp_path: Path) -> None:
    """What is copied ahead stays below the root, too."""
    partial.write_bytes(LARGE)
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "deep").symlink_to(tmp_path)
    _says(recorder, lambda: _coming(partial, 2_000_000))
    with pytest.raises(errors.BadPath, match="symbolic link"):
        _get(tmp_path)
    assert not (tmp_path / "large").exists()
