"""``wherry put``: what it prints."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit.cli.conftest import Wherry
from tests.unit.cli.fake import FakeDaemon, request
from wherry.cli import files


@pytest.mark.parametrize("state", ["accepted", "sending", "done", "held", "failed"])
def test_unwaited_put_prints_version(
    daemon: FakeDaemon, wherry: Wherry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, state: str
) -> None:
    """`put --no-wait` prints the id for `wait`, and ends well, however fast the daemon was; else it is the
    version, or the failure.
    """
    (tmp_path / "x").write_text("x")
    logged = request(1, state=state, version=0 if state == "done" else -1)
    daemon.requests = [logged]
    monkeypatch.setattr(files, "_log", lambda *_: logged.request_id)
    assert wherry("put", str(tmp_path / "x"), "--no-wait").stdout == logged.request_id + "\n"
    if state == "done":
        assert wherry("put", str(tmp_path / "x"), "--wait").stdout == "cats/model:v0\n"
    if state == "failed":
        wherry("put", str(tmp_path / "x"), "--wait", exit_code=1)


def test_unset_variable_fills_this_folder(wherry: Wherry) -> None:
    """`get --root "$OUT"`, where OUT is not set, is wrong usage, and writes nothing here."""
    assert "the folder is empty" in wherry("get", "model", "--root", "", exit_code=2).stderr
