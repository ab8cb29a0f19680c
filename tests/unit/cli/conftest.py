"""A command line to run, and a daemon that says what the test wants."""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.unit.cli.fake import FakeDaemon
from wherry import connection
from wherry.cli.app import run


@pytest.fixture(autouse=True)
def _own_connections() -> Iterator[None]:
    """Leave no connection behind: the next test has another home."""
    yield
    for each in connection._connections.values():
        each.close()
    connection._connections.clear()


@pytest.fixture
def daemon(home: Path) -> Iterator[FakeDaemon]:
    """Serve this test's home."""
    with FakeDaemon(home) as serving:
        yield serving


class Result(NamedTuple):
    """What a command printed."""

    stdout: str
    stderr: str


Wherry = Callable[..., Result]


@pytest.fixture
def wherry(monkeypatch: pytest.MonkeyPatch) -> Wherry:
    """Run the command line in this process: ``wherry("queue", "--json")``."""
    monkeypatch.setenv("COLUMNS", "200")

    def run_here(*args: str, exit_code: int = 0) -> Result:
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            ended = run(args)
        shown = Result(out.getvalue(), err.getvalue())
        assert ended == exit_code, f"{ended}: {shown}"
        return shown

    return run_here


@pytest.fixture
def as_json(wherry: Wherry) -> Callable[..., Any]:
    """Run a command with ``--json`` and read what it prints."""

    def read(*args: str, exit_code: int = 0) -> Any:
        return json.loads(wherry(*args, "--json", exit_code=exit_code).stdout)

    return read
