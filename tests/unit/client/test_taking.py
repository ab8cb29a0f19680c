"""Files that lie on this machine already: copied out, compared where nobody has, else asked for."""

from __future__ import annotations

import io
import os
import stat
from pathlib import Path

import pytest

import wherry
from tests.unit.client.recorder import Recorder, Refusal
from tests.unit.client.test_download import digest, files_below, put
from wherry import errors
from wherry.progress import Coming
from wherry.wire import wherry_pb2 as pb

SMALL, LARGE = os.urandom(5_000), os.urandom(300_000)
FILES = {"deep/large": LARGE, "empty": b"", "small": SMALL, "tiny": b"t"}
#: Everything but ``deep/large`` in one file, with gaps.
PACK = b"--" + SMALL + b"-" + b"t" + b"---"


@pytest.fixture
def objects(tmp_path: Path) -> Path:
    """A folder with what the daemon has brought here."""
    folder = tmp_path / "objects"
    folder.mkdir()
    (folder / "large").write_bytes(LARGE)
    (folder / "pack").write_bytes(PACK)
    return folder


def place(recorder: Recorder, objects: Path, *, checked: bool = True) -> None:
    """Let the daemon have the version, and tell where its bytes are."""
    put(recorder, FILES)

    def at(path: str, file: str, offset: int = 0) -> pb.FetchedFile:
        return pb.FetchedFile(path=path, file=str(objects / file), offset=offset, checked=checked)

    recorder.places = [
        pb.FetchReply(files=[at("deep/large", "large")]),
        pb.FetchReply(
            files=[
                at("empty", "pack", 2),
                at("small", "pack", 2),
                at("tiny", "pack", 3 + len(SMALL)),
            ]
        ),
        pb.FetchReply(last=True),
    ]


def artifact() -> wherry.Artifact:
    return wherry.Api({"project": "cats"}).artifact("data:v0")


@pytest.mark.parametrize("checked", [True, False])
def test_what_is_here_is_sent(
    recorder: Recorder, objects: Path, tmp_path: Path, checked: bool
) -> None:
    """Files are copied out of those that the daemon names, whole or in part, and none of it is sent."""
    place(recorder, objects, checked=checked)
    artifact().download(tmp_path / "there")
    assert files_below(tmp_path / "there") == FILES
    assert recorder.asked_files == []


@pytest.mark.parametrize("checked", [True, False])
def test_a_copy_is_the_original(
    recorder: Recorder, objects: Path, tmp_path: Path, checked: bool
) -> None:
    """What the user does to a copy is not done to what it was copied from; a copy may be written to."""
    place(recorder, objects, checked=checked)
    os.chmod(objects / "large", 0o400)
    artifact().download(tmp_path / "there")
    copied = tmp_path / "there" / "deep" / "large"
    assert stat.S_IMODE(copied.stat().st_mode) & stat.S_IWUSR
    copied.write_bytes(b"other")
    assert (objects / "large").read_bytes() == LARGE


def test_damaged_object_is_copied(recorder: Recorder, objects: Path, tmp_path: Path) -> None:
    """What nobody has compared is compared while it is copied: other bytes are an error, and no file."""
    place(recorder, objects, checked=False)
    (objects / "pack").write_bytes(PACK.replace(b"-t-", b"-u-"))
    with pytest.raises(errors.StoreDamaged, match="'tiny'"):
        artifact().download(tmp_path / "there")
    assert files_below(tmp_path / "there") == {
        name: FILES[name] for name in FILES if name != "tiny"
    }


@pytest.mark.parametrize("lost", ["gone", "short", "unreadable"])
@pytest.mark.parametrize("checked", [True, False])
def test_object_that_is_not_there_is_the_end(
    recorder: Recorder, objects: Path, tmp_path: Path, lost: str, checked: bool
) -> None:
    """What can't be had where the daemon says, it is asked to send."""
    place(recorder, objects, checked=checked)
    pack, large = objects / "pack", objects / "large"
    match lost:
        case "gone":
            pack.unlink()
        case "short":
            pack.write_bytes(PACK[:100])
            large.write_bytes(LARGE[:-1])
        case "unreadable":
            pack.unlink()
            pack.mkdir()
    artifact().download(tmp_path / "there")
    assert files_below(tmp_path / "there") == FILES
    (asked,) = recorder.asked_files
    expected = {"small", "tiny"} | ({"deep/large"} if lost == "short" else set())
    assert expected <= set(asked.paths) <= expected | {"empty"}


def test_bytes_in_the_answer_are_asked_for_again(
    recorder: Recorder, objects: Path, tmp_path: Path
) -> None:
    """A few small files may come in the answer itself; they are compared, too."""
    place(recorder, objects)
    recorder.places[1] = pb.FetchReply(
        files=[
            pb.FetchedFile(path="empty"),
            pb.FetchedFile(path="small", data=SMALL),
            pb.FetchedFile(path="tiny", data=b"t"),
        ]
    )
    artifact().download(tmp_path / "there")
    assert files_below(tmp_path / "there") == FILES
    assert recorder.asked_files == []
    recorder.places[1].files[1].data = SMALL[::-1]
    with pytest.raises(errors.StoreDamaged, match="'small'"):
        artifact().download(tmp_path / "again")


def test_too_much_for_the_cache_is_not_fetched(
    recorder: Recorder, objects: Path, tmp_path: Path
) -> None:
    """Where the daemon has no room for more at once, it is asked again for what is behind."""
    place(recorder, objects)
    first, second, last = recorder.places
    asked = recorder.asked_places
    recorder.places = [first, pb.FetchReply(last=True, more=True)]

    def go_on(request: pb.FetchFilesRequest) -> list[pb.FetchReply]:
        asked.append(request)
        return [first, pb.FetchReply(last=True, more=True)] if not request.after else [second, last]

    recorder.fetch_files = lambda request: iter(go_on(request))  # type: ignore[method-assign]
    artifact().download(tmp_path / "there")
    assert files_below(tmp_path / "there") == FILES
    assert [request.after for request in asked] == ["", "deep/large"]


def test_a_daemon_that_ends_begins_again(recorder: Recorder, objects: Path, tmp_path: Path) -> None:
    """After a cut the next daemon is asked for what is missing, by name or by what it is behind."""
    place(recorder, objects)
    first, second, last = recorder.places
    asked: list[pb.FetchFilesRequest] = []

    def cut(request: pb.FetchFilesRequest) -> object:
        asked.append(request)
        if len(asked) % 2:
            yield first
            raise Refusal("ConnectionLost")
        yield from (second, last)

    recorder.fetch_files = cut  # type: ignore[method-assign, assignment]
    artifact().download(tmp_path / "all")
    artifact().download(tmp_path / "some", path_prefix="")
    assert files_below(tmp_path / "all") == files_below(tmp_path / "some") == FILES
    assert [request.after for request in asked] == ["", "deep/large", "", ""]
    assert list(asked[3].paths) == ["empty", "small", "tiny"]


@pytest.mark.parametrize("harm", ["offset", "name", "size"])
def test_a_wrong_place_is_copied(
    recorder: Recorder, objects: Path, tmp_path: Path, harm: str
) -> None:
    """What the daemon has compared is a file as a whole: any other place is compared here."""
    place(recorder, objects)
    name = objects / digest(LARGE)[7:]
    (objects / "large").rename(name)
    first = recorder.places[0].files[0]
    first.file = str(name)
    match harm:
        case "offset":
            recorder.places[1].files[1].offset += 1
        case "name":
            name.write_bytes(LARGE[::-1])
            first.file = str(name.rename(objects / ("0" * 64)))
        case "size":
            name.write_bytes(LARGE + b"x")
    if harm == "size":  # then it is not the entry's file, and the daemon is asked to send that
        artifact().download(tmp_path / "there")
        assert files_below(tmp_path / "there") == FILES
        assert [*recorder.asked_files[0].paths] == ["deep/large"]
        return
    artifact().download(tmp_path / "there")  # the daemon sends it, and it is compared again
    assert files_below(tmp_path / "there") == FILES
    asked = {path for request in recorder.asked_files for path in request.paths}
    assert asked == {"small" if harm == "offset" else "deep/large"}


@pytest.mark.parametrize("odd", ["fifo", "folder"])
def test_something_else_than_a_file_is_waited_for(
    recorder: Recorder, objects: Path, tmp_path: Path, odd: str
) -> None:
    """What is no file where the daemon says there is one is asked for."""
    place(recorder, objects)
    (objects / "large").unlink()
    (os.mkfifo if odd == "fifo" else os.mkdir)(objects / "large")
    artifact().download(tmp_path / "there")
    assert files_below(tmp_path / "there") == FILES


def test_a_daemon_that_says_nothing_is_asked_for_ever(
    recorder: Recorder, objects: Path, tmp_path: Path
) -> None:
    """A daemon that says that there is more, and tells of nothing, is an error."""
    place(recorder, objects)
    recorder.places = [pb.FetchReply(last=True, more=True)]
    with pytest.raises(errors.ProtocolError, match="4 files"):
        artifact().download(tmp_path / "there")


def test_a_leaving_daemon_fails_a_download(
    recorder: Recorder, objects: Path, tmp_path: Path
) -> None:
    """Where the daemon leaves, the next one is asked for the rest."""
    place(recorder, objects)
    recorder.refusals["FetchFiles"] = [Refusal("DaemonLeaving")] * 2
    artifact().download(tmp_path / "there")
    assert files_below(tmp_path / "there") == FILES


def test_a_download_goes_on_in_silence(
    recorder: Recorder, objects: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One that takes long says how far it is, in a line every ten seconds."""
    out, now_s = io.StringIO(), [0.0]
    coming = Coming("data:v0", 4 << 20, out, lambda: now_s[0])
    for second in range(25):
        now_s[0] = float(second)
        coming.note(second * 100_000)
        coming.note(0)  # nothing goes back
    coming.clear()
    lines = out.getvalue().splitlines()
    assert lines[0] == "wherry: data:v0: 976.6 KiB of 4.0 MiB downloaded"
    assert lines[1].startswith("wherry: data:v0: 1.9 MiB of 4.0 MiB downloaded, 97.7 KiB/s, ")
    assert len(lines) == 2
    place(recorder, objects)
    artifact().download(tmp_path / "there")
    assert capsys.readouterr().err == ""


def test_a_daemon_that_tells_too_little(recorder: Recorder, objects: Path, tmp_path: Path) -> None:
    """An entry of which nothing is told is an error, not a file less."""
    place(recorder, objects)
    del recorder.places[1]
    with pytest.raises(errors.ProtocolError, match="3 files"):
        artifact().download(tmp_path / "there")


def test_skipping_the_cache_asks_for_it(recorder: Recorder, objects: Path, tmp_path: Path) -> None:
    """``skip_cache`` has the bytes sent, and asks for no place."""
    place(recorder, objects)
    artifact().download(tmp_path / "there", skip_cache=True)
    assert files_below(tmp_path / "there") == FILES
    assert (recorder.asked_places, len(recorder.asked_files)) == ([], 1)
