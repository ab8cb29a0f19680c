"""What programs may rely on by name. A change here is a change for users: it belongs in CHANGELOG.md."""

from __future__ import annotations

import builtins
import re

import pytest

import wherry
from wherry import errors

_NAMES = [
    "Api",
    "Artifact",
    "CommError",
    "Error",
    "Run",
    "Settings",
    "Table",
    "UsageError",
    "__version__",
    "config",
    "data_types",
    "errors",
    "finish",
    "init",
    "log",
    "log_artifact",
    "login",
    "run",
    "use_artifact",
]

# What ports of W&B programs catch, and the builtin that it is as well.
_CAUGHT = {
    "ArtifactFinalizedError": errors.WherryError,
    "ArtifactNotLoggedError": errors.WherryError,
    "BadMetadata": ValueError,
    "BadName": ValueError,
    "BadPath": ValueError,
    "BadTable": ValueError,
    "BadValue": TypeError,
    "CommError": errors.WherryError,
    "FileMissing": FileNotFoundError,
    "LibraryMissing": ImportError,
    "MissingDistributedId": TypeError,
    "NotFoundError": errors.CommError,
    "NotYet": NotImplementedError,
    "PathTaken": ValueError,
    "TypeTaken": ValueError,
    "WaitTimeoutError": TimeoutError,
}


def test_name_comes_or_goes() -> None:
    """`wherry` exports these names and no others."""
    assert sorted(wherry.__all__) == sorted(_NAMES)


@pytest.mark.parametrize("name", _NAMES)
def test_name_does_not_load(name: str) -> None:
    """Each exported name can be had, though most load late, and stands in dir()."""
    getattr(wherry, name)
    assert name in dir(wherry)


def test_unknown_name_is_given() -> None:
    """A name that is not exported is an AttributeError, as of any module."""
    with pytest.raises(AttributeError, match="no attribute 'sweep'"):
        wherry.sweep  # type: ignore[attr-defined]  # noqa: B018 - the look is what raises


@pytest.mark.parametrize("name", _CAUGHT)
def test_error_changes_its_kind(name: str) -> None:
    """What programs catch today they catch tomorrow, under our name and the builtin's."""
    assert issubclass(errors.BY_NAME[name], errors.WherryError)
    assert issubclass(errors.BY_NAME[name], _CAUGHT[name])


def test_tree_of_errors_is_not_the_classes() -> None:
    """The tree at the head of wherry.errors shows every class, and none that is not there."""
    shown = set(re.findall(r"\b[A-Z][A-Za-z]+", errors.__doc__ or ""))
    assert errors.BY_NAME.keys() <= shown
    compound = {name for name in shown if re.fullmatch(r"([A-Z]+[a-z]+){2,}", name)}
    assert compound <= errors.BY_NAME.keys() | vars(builtins).keys()
