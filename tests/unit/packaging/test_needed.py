"""What the daemon needs, and says so before it starts."""

from __future__ import annotations

import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

from wherryd import __main__ as program

_REPOSITORY = Path(__file__).resolve().parents[3]
#: The command line's.
_NOT_THE_DAEMONS = {"rich"}


def test_needed_package_is_found_missing_too_late() -> None:
    """Each package that the extra ``daemon`` brings is looked for before the daemon starts."""
    declared = tomllib.loads((_REPOSITORY / "pyproject.toml").read_text())["project"][
        "optional-dependencies"
    ]
    wanted = {line.partition(">")[0] for line in declared["daemon"]} - _NOT_THE_DAEMONS
    brought_by = packages_distributions()
    looked_for = {
        package for name in program._NEEDED for package in brought_by[name.partition(".")[0]]
    }
    assert wanted <= looked_for


def test_missing_package_is_a_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Missing packages, and parts of missing ones, are named, with what installs them."""
    monkeypatch.setattr(program, "_NEEDED", ("anyio", "no_such", "no_such.part", "gcloud.no_such"))
    assert program.main([]) == 1
    said = capsys.readouterr().err
    assert "no_such, no_such.part, gcloud.no_such" in said
    assert "pip install 'wherry[daemon]'" in said
