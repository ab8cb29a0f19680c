"""Every ``raise`` of the client, looked at in its source: what users have to catch."""

from __future__ import annotations

import ast
import builtins
import importlib
import inspect
import pkgutil
from collections.abc import Iterator
from io import UnsupportedOperation
from operator import attrgetter
from types import ModuleType

import pytest

import wherry
from wherry import cli, errors, tables, wire
from wherry.errors import WherryError

#: What is no error of ours and reaches users, as the builtin that they know.
BUILTINS = {
    "wherry": {AttributeError},  # as of any module
    "wherry.run_config": {AttributeError},  # as of any object
    "wherry.spool_file": {
        *(AttributeError, OSError, UnsupportedOperation, ValueError)  # as files and `open()` say it
    },
}
#: What is met within the client, and made an error of ours there.
MET = {
    "wherry.copying": {"EndedEarly", "WriteFailed"},
    "wherry.fetching": {"_Refused"},
    "wherry.launch": {"_Killed"},
    "wherry.taking": {"_NotThere"},
    "wherry.wire.settings": {"ValueError"},
    "wherry.wire.canonical": {"ValueError"},
    "wherry.wire.failpoints": {"ValueError"},
}

MODULES = sorted(
    each.name
    for package in (wherry, wire, tables)
    for each in pkgutil.iter_modules(package.__path__, f"{package.__name__}.")
    if each.name not in (cli.__name__, wire.__name__, tables.__name__)
)


@pytest.mark.parametrize("name", ["wherry", *MODULES])
def test_module_raises_what_is_no_error_of_ours(name: str) -> None:
    """What the client raises is a ``WherryError``, but for what is listed above with its reason."""
    module = importlib.import_module(name)
    allowed = BUILTINS.get(name, set())
    met = MET.get(name, set())
    wrong = [
        f"line {line}: {cls.__name__}"
        for line, cls in raised_in(module)
        if not (issubclass(cls, WherryError) or cls in allowed or cls.__name__ in met)
    ]
    assert wrong == []


def test_sweep_finds_nothing() -> None:
    """The sweep sees classes, what functions and methods return, and names them by their line."""
    found = [
        cls.__name__ for name in MODULES for _, cls in raised_in(importlib.import_module(name))
    ]
    assert len(found) > 150
    assert {"BadName", "NotYet", "FileUnreadable", "DaemonNotStarted", "PathTaken"} <= {*found}


def raised_in(module: ModuleType) -> Iterator[tuple[int, type[BaseException]]]:
    """Line and class of each ``raise``; none for one of what was caught or kept before."""
    for owner, node in _raises(ast.parse(inspect.getsource(module)), None):
        thing = node.exc.func if isinstance(node.exc, ast.Call) else node.exc
        assert thing is not None
        for cls in _classes(module, owner, ast.unparse(thing)):
            yield node.lineno, cls


def _raises(node: ast.AST, owner: str | None) -> Iterator[tuple[str | None, ast.Raise]]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Raise) and child.exc is not None:
            yield owner, child
        inside = child.name if isinstance(child, ast.ClassDef) else owner
        yield from _raises(child, inside)


def _classes(module: ModuleType, owner: str | None, dotted: str) -> Iterator[type[BaseException]]:
    """What a name stands for: a class, or what returns an error; nothing for one that was caught."""
    if dotted.startswith("self.") and owner:
        dotted = f"{owner}.{dotted.removeprefix('self.')}"
    thing = _find(module, dotted)
    if thing is None:
        assert dotted.isidentifier() or "." in dotted or dotted.endswith("]"), dotted
    elif inspect.isclass(thing):
        yield thing
    elif inspect.isroutine(thing):
        for name in inspect.get_annotations(thing)["return"].split(" | "):
            found = _find(module, name)
            assert inspect.isclass(found), f"{dotted} returns {name}"
            yield found


def _find(module: ModuleType, dotted: str) -> object:
    """Look a name up in the module, among our errors, and among the builtins."""
    for place in (module, errors, builtins):
        try:
            return attrgetter(dotted.removeprefix("errors."))(place)
        except AttributeError:
            continue
    return None
