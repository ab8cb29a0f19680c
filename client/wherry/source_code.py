"""The program's source as an artifact. Owns: which files those are, and what the artifact is called.

Does not own: logging them (``runs``). Where nothing else is said, names and choices are W&B's.
"""

from __future__ import annotations

import inspect
import os
import re
import sys
from collections.abc import Callable, Iterator

from wherry.wire.names import MAX_NAME_CHARACTERS

Choice = Callable[[str, str], bool] | Callable[[str], bool]

#: Nobody's source, whatever is chosen below: version control, packages, what tools have made.
_LEFT_OUT = frozenset(
    (".git", ".hg", ".svn", "node_modules", "site-packages", "__pycache__", "wandb", ".wandb")
)
#: What lies in the top folder of a virtual environment, of one of conda's, of a store.
_MARKS = ("pyvenv.cfg", "conda-meta", "wherry.json")
_UNSAFE = re.compile(r"[^a-zA-Z0-9_\-.]")
_HALF = MAX_NAME_CHARACTERS // 2 - 1


def is_source(path: str) -> bool:
    """Choose Python's files, and what says how to set the program up."""
    name = os.path.basename(path)
    return name.endswith(".py") or name.startswith("Dockerfile") or name == "requirements.txt"


def is_nothing(path: str) -> bool:
    """Leave out no more than is left out anyway."""
    del path
    return False


def files_below(root: str, include: Choice, exclude: Choice, home: str) -> Iterator[str]:
    """Find the files that shall be logged, in order of their paths; links to folders are not followed.

    Args:
        root: absolute.
        include: whether a file belongs, by its path, or by its path and ``root``.
        exclude: likewise, and whether it is left out all the same.
        home: ``WHERRY_HOME``, which is always left out.
    """
    belongs, is_out = _by_both(include), _by_both(exclude)
    for folder, folders, names in os.walk(root):
        folders[:] = sorted(name for name in folders if not _is_left_out(folder, name, home))
        for path in (os.path.join(folder, name) for name in sorted(names)):
            if belongs(path, root) and not is_out(path, root) and os.path.isfile(path):
                yield path


def artifact_name(project: str) -> str:
    """Name the program's source: ``source-<project>-<the program's path>``, as W&B does."""
    name = _UNSAFE.sub("_", f"source-{project}-{_program()}")
    if len(name) > MAX_NAME_CHARACTERS:
        return f"{name[:_HALF]}..{name[-_HALF:]}"
    return name


def _is_left_out(folder: str, name: str, home: str) -> bool:
    path = os.path.join(folder, name)
    marks = (os.path.join(path, mark) for mark in _MARKS)
    return name in _LEFT_OUT or _is_same(path, home) or any(map(os.path.exists, marks))


def _is_same(path: str, home: str) -> bool:
    try:
        return os.path.samefile(path, home)
    except OSError:
        return False


def _by_both(choice: Choice) -> Callable[[str, str], bool]:
    """Call a choice as it wants to be called: older programs' take the path alone."""
    try:
        count = len(inspect.signature(choice).parameters)
    except (TypeError, ValueError):  # a builtin may not tell
        count = 1
    if count == 2:
        return choice  # type: ignore[return-value]
    return lambda path, _: choice(path)  # type: ignore[call-arg]


def _program() -> str | None:
    """The path of the program in its repository, else in the working folder; None where it is in neither."""
    file = getattr(sys.modules.get("__main__"), "__file__", None)
    if not file or not os.path.exists(file):
        return None
    path = os.path.relpath(os.path.realpath(file), _repository(os.getcwd()))
    return None if path.startswith("..") else path


def _repository(folder: str) -> str:
    """The folder of the repository that a folder is in; itself where it is in none."""
    above = os.path.realpath(folder)
    while not os.path.exists(os.path.join(above, ".git")):
        if above == os.path.dirname(above):
            return os.path.realpath(folder)
        above = os.path.dirname(above)
    return above
