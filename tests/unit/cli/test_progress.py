"""What is shown while somebody waits."""

from __future__ import annotations

import pytest

from tests.unit.cli.fake import request
from wherry.cli import progress


def test_bytes_are_counted_twice() -> None:
    """Sums follow each change of a request; what has ended counts as whole."""
    tally = progress._Tally()
    tally.count = 2
    tally.note(request(1, state="prepared", bytes_done=1024))
    tally.note(request(1, state="prepared", bytes_done=2048))
    tally.note(request(2, state="accepted"))
    assert (tally.ended, tally.done_bytes, tally.size_bytes) == (0, 2048, 8192)
    tally.note(request(1, state="done", version=3))
    tally.note(request(2, state="failed"))
    assert (tally.ended, tally.done_bytes, tally.size_bytes) == (2, 8192, 8192)


def test_trouble_is_hidden() -> None:
    """The line names what waits for something to get better, as long as it does."""
    tally = progress._Tally()
    tally.count = 2
    tally.note(request(1, state="prepared", error="StoreUnavailable", reason="no answer"))
    tally.note(request(2, state="sending", name="other"))
    assert (
        tally.text()
        == "0 of 2 ended, 4.0 KiB of 8.0 KiB; cats/model waiting for the store: no answer."
    )
    tally.note(request(1, state="done", version=0))
    assert tally.text() == "1 of 2 ended, 8.0 KiB; cats/model committed as v0"


def test_log_is_flooded(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where there is no terminal a line comes every ten seconds, and none before."""
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    with progress.choose_progress(quiet=False) as shown:
        shown.begin(1)
        for second in range(25):
            now[0] = 100.0 + second
            shown.note(request(1, state="prepared", bytes_done=second))
    assert len(capsys.readouterr().err.splitlines()) == 2


def test_json_is_disturbed(capsys: pytest.CaptureFixture[str]) -> None:
    """A command that prints JSON shows no progress, not even to people."""
    with progress.choose_progress(quiet=True) as shown:
        shown.begin(1)
        shown.note(request(1))
    assert capsys.readouterr() == ("", "")


def test_terminal_shows_no_bar(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a terminal there are a bar and a line on what happens."""
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    with progress.choose_progress(quiet=False) as shown:
        shown.begin(1)
        shown.note(request(1, state="prepared", bytes_done=1024))
        assert isinstance(shown, progress._OnTerminal)
        shown._live.refresh()
    told = capsys.readouterr().err
    assert "1.0/4.0 KiB" in told
    assert "cats/model being uploaded" in told
