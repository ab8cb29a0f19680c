"""The progress line: its words, and how often it is written."""

from __future__ import annotations

import io
from typing import Any

import pytest

from wherry.progress import Line, Pace, describe, duration_text, size_text
from wherry.wire import wherry_pb2 as pb


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def state(number: int, **fields: object) -> pb.RequestState:
    known = {"request_id": str(number), "name": f"a{number}", "place": number, "size": 1 << 20}
    return pb.RequestState(**{**known, **fields})  # type: ignore[arg-type] # each test says which


def test_line_says_something_else() -> None:
    """The line tells versions, bytes, rate, time left, and the first that is not done, and why."""
    pace = Pace()
    states = [
        state(1, state="done"),
        state(2, state="prepared", bytes_done=1 << 19, error="StoreUnavailable", reason="slow"),
        state(3, state="accepted", bytes_done=1 << 19),
    ]
    assert describe(states, pace, 0).startswith(
        "wherry: 1 of 3 versions committed, 1.5 MiB of 3.0 MiB; a2: its files are being uploaded"
    )
    states[1].bytes_done = 1 << 20
    text = describe(states, pace, 2)
    assert "2.0 MiB of 3.0 MiB, 256.0 KiB/s, 4 s left" in text
    assert text.endswith("(StoreUnavailable: slow)")


def test_log_file_is_flooded() -> None:
    """Elsewhere than on a terminal there is one line in ten seconds."""
    out = io.StringIO()
    line = Line(out, 0)
    for tick in range(350):
        line.show(f"at {tick / 10:g}", tick / 10)
    line.clear()
    assert out.getvalue() == "at 10\nat 20\nat 30\n"


def test_terminal_scrolls() -> None:
    """On a terminal one line is written over, cut to the width, and cleared at the end."""
    out = Terminal()
    line = Line(out, 0)
    for tick in range(20):
        line.show("x" * 200, tick / 10)
    line.clear()
    parts = out.getvalue().split("\r\x1b[2K")
    assert parts[0] == parts[-1] == ""
    assert set(parts[1:-1]) == {"x" * 79}
    assert 3 <= len(parts) - 2 <= 8
    assert "\n" not in out.getvalue()


def test_no_stderr_breaks_the_end() -> None:
    """A process without stderr finishes in silence."""
    line = Line(None, 0)
    assert not line.is_due(100)
    line.show("x", 100)
    line.clear()


def test_numbers_are_unreadable() -> None:
    """Bytes and times are written for people."""
    assert [size_text(n) for n in (0, 1, 1023, 1536, 5 << 30, 3 << 40)] == [
        "0 bytes",
        "1 byte",
        "1023 bytes",
        "1.5 KiB",
        "5.0 GiB",
        "3.0 TiB",
    ]
    assert [duration_text(s) for s in (0.4, 99, 120, 7200)] == ["0 s", "99 s", "2 min", "2 h"]


class Tee:
    """What many programs put at ``sys.stderr``."""

    def __init__(self) -> None:
        self.written: list[str] = []

    def write(self, text: str) -> None:
        self.written.append(text)


class TerminalTee(Tee):
    def isatty(self) -> bool:
        return True


class BrokenTee(Tee):
    def isatty(self) -> bool:
        raise RuntimeError("broken")

    def write(self, text: str) -> None:
        raise RuntimeError(text)


@pytest.mark.parametrize("out", [Tee(), TerminalTee(), BrokenTee()])
def test_line_stops_the_program(out: Any) -> None:
    """What stands in a stream's place need not be a file: it is written to as far as it can be."""
    line = Line(out, 0)
    line.show("x" * 100, 20)
    line.clear()
    assert isinstance(out, BrokenTee) or "x" * 79 in "".join(out.written)
