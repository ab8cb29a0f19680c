"""How numbers, times and names are written."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wherry.cli import words

_NOW = datetime(2026, 11, 23, 14, 0, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("60", 60), ("60s", 60), ("10m", 600), ("10min", 600), ("1.5h", 5400), ("2d", 172_800)],
)
def test_time_is_misread(text: str, seconds: float) -> None:
    """A time is a number with or without a unit; without, it is seconds."""
    assert words.read_span(text) == seconds


@pytest.mark.parametrize("text", ["", "s", "-1", "1e3", "10 minutes", "1:30", "٣"])
def test_nonsense_is_a_time(text: str) -> None:
    """What is no time is refused with the forms that are allowed."""
    with pytest.raises(ValueError, match="write 60s"):
        words.read_span(text)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (-3, "0 s"), (119, "119 s"), (120, "2 min"), (7_200, "2 h"), (200_000, "2 d")],
)
def test_span_is_written_wrong(seconds: float, text: str) -> None:
    """A span has the largest unit of which there are two at least."""
    assert words.span_text(seconds) == text


def test_time_ahead_is_wrong() -> None:
    """How far an RFC 3339 time is ahead is told in any zone; of no time nothing is told."""
    assert words.seconds_until("2026-11-23T14:00:12.500Z", _NOW) == 12.5
    assert words.seconds_until("2026-11-23T15:00:00+01:00", _NOW) == 0
    assert words.seconds_until("2026-11-23T13:59:00Z", _NOW) == -60
    assert words.seconds_until("", _NOW) is None
    assert words.seconds_until("2026-11-23T14:00:12", _NOW) is None


@given(st.text())
def test_name_steers_the_terminal(text: str) -> None:
    """Whatever a file is called, only printable characters reach the terminal."""
    assert words.printable(text).isprintable()


def test_plain_name_is_changed() -> None:
    """A name that can be printed is printed as it is."""
    assert words.printable("Ünïcode/ein Bild.png") == "Ünïcode/ein Bild.png"
    assert words.printable("a\x1b[2Jb\n") == "a\\x1b[2Jb\\n"


@given(st.sets(st.uuids(), min_size=1))
def test_short_ids_mean_two(ids: set[object]) -> None:
    """The shown ends of ids tell them apart, and are ends of the ids."""
    whole = {str(id_) for id_ in ids}
    short = words.short_ids(whole)
    assert len(set(short.values())) == len(whole)
    assert all(id_.endswith(end) for id_, end in short.items())


def test_ids_stay_long() -> None:
    """Eight characters are shown where they suffice, more where they do not."""
    one, other = "0193e0c2-7f3a-7000-8000-00000000000a", "0193e0c2-7f3a-7000-8000-10000000000a"
    assert words.short_ids([one]) == {one: "0000000a"}
    assert words.short_ids([one, other]) == {one: "00000000000a", other: "10000000000a"}


def test_upload_looks_done() -> None:
    """While it is under way, both the sent and the whole are shown."""
    assert words.progress_text(0, 2048) == "2.0 KiB"
    assert words.progress_text(1024, 2048) == "1.0 KiB of 2.0 KiB"
    assert words.progress_text(2048, 2048) == "2.0 KiB"
