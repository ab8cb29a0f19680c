"""The trainers' packages, which the user has to have installed.

Owns: importing them, and what is said where one is missing. Does not own: what is done with them.
"""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType

from wherry.errors import LibraryMissing


def load(names: tuple[str, ...], wanted_by: str, install: str) -> ModuleType:
    """Import the first of some modules that is there; one of a package that is in use already is tried first.

    Args:
        names: the same module under the names that it has had.
        wanted_by: who needs it, for the message.
        install: what brings it.

    Raises:
        LibraryMissing: none of them is installed. What else an import raises passes through.
    """
    for name in sorted(names, key=lambda name: _package(name) not in sys.modules):
        try:
            return import_module(name)
        except ModuleNotFoundError as error:
            if not f"{name}.".startswith(f"{error.name}."):
                raise  # it is there, and lacks something itself
    raise LibraryMissing(
        f"{wanted_by} needs {' or '.join(map(_package, names))}, which is not installed here.",
        hint=f"pip install {install}",
    )


def _package(name: str) -> str:
    return name.rpartition(".")[0] or name
