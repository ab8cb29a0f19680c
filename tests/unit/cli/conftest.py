"""A command line to run, and a daemon that says what the test wants."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from tests.unit.cli.fake import FakeDaemon
from wherry import connection


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


Wherry = Callable[..., Result]


@pytest.fixture
def wherry(monkeypatch: pytest.MonkeyPatch) -> Wherry:
    """Run the command line in this process: ``wherry("queue", "--json")``."""
    from wherry.cli.app import app

    monkeypatch.setenv("COLUMNS", "200")

    def run(*args: str, exit_code: int = 0) -> Result:
        result = CliRunner().invoke(app, list(args), catch_exceptions=False)
        assert result.exit_code == exit_code, f"{result.exit_code}: {result.output}"
        return result

    return run


@pytest.fixture
def as_json(wherry: Wherry) -> Callable[..., Any]:
    """Run a command with ``--json`` and read what it prints."""

    def run(*args: str, exit_code: int = 0) -> Any:
        return json.loads(wherry(*args, "--json", exit_code=exit_code).stdout)

    return run
