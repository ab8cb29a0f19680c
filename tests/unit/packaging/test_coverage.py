"""The README's table of what works of W&B's surface is true."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import pytest

import wherry
from wherry.errors import NotYet

_README = Path(__file__).resolve().parents[3] / "README.md"
_ROW = re.compile(r"^\| (`Artifact`|`Run`|`Api`|module)[^|]*\|([^|]*)\|([^|]*)\|$", re.MULTILINE)


def _names(column: int) -> list[tuple[str, str]]:
    rows = _ROW.findall(_README.read_text())
    cells = [(row[0].strip("`"), row[column].split(", tables by")[0]) for row in rows]
    return [(kind, name) for kind, cell in cells for name in re.findall(r"`(\w+)`", cell)]


def _thing(kind: str) -> object:
    if kind == "module":
        return wherry
    if kind == "Artifact":
        return wherry.Artifact
    if kind == "Api":
        return wherry.Api
    return wherry.init(mode="disabled", group="group")


def test_table_is_gone() -> None:
    """The table is where this test looks for it."""
    assert len(_names(1)) > 40 and len(_names(2)) > 5


@pytest.mark.parametrize(("kind", "name"), _names(1))
def test_what_works_is_missing(kind: str, name: str) -> None:
    """What the table says works is there."""
    assert name in dir(_thing(kind))


@pytest.mark.parametrize(("kind", "name"), _names(2))
def test_what_comes_later_does_something_else(kind: str, name: str) -> None:
    """What the table says comes later raises ``NotYet``."""
    thing = wherry.Artifact("a", type="t") if kind == "Artifact" else _thing(kind)
    call = getattr(thing, name)
    wanted = [
        "x"
        for each in inspect.signature(call).parameters.values()
        if each.default is each.empty and each.kind is each.POSITIONAL_OR_KEYWORD
    ]
    with pytest.raises(NotYet):
        call(*wanted)
