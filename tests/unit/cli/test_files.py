"""``wherry put``: what it prints."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit.cli.conftest import Wherry
from tests.unit.cli.fake import FakeDaemon, request
from wherry.cli import files


@pytest.mark.parametrize("state", ["accepted", "sending", "done", "held"])
def test_unwaited_put_prints_version(
    daemon: FakeDaemon, wherry: Wherry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, state: str
) -> None:
    """`put --no-wait` prints the id for `wait`, even where the store was faster; else it is the version."""
    (tmp_path / "x").write_text("x")
    logged = request(1, state=state, version=0 if state == "done" else -1)
    daemon.requests = [logged]
    monkeypatch.setattr(files, "_log", lambda *_: logged.request_id)
    assert wherry("put", str(tmp_path / "x"), "--no-wait").stdout == logged.request_id + "\n"
    if state == "done":
        assert wherry("put", str(tmp_path / "x"), "--wait").stdout == "cats/model:v0\n"
