"""What Wherry says without being asked. Owns: that each thing is said once, and on stderr."""

from __future__ import annotations

import contextlib
import sys
import warnings
from collections.abc import Iterable
from typing import TextIO

_said: set[str] = set()


def warn_once(text: str, stack_level: int = 3) -> None:
    """Warn of what a program asked for and does not get; the same words only once a process."""
    if text not in _said:
        _said.add(text)
        warnings.warn(text, UserWarning, stacklevel=stack_level)


def warn_of_ignored(where: str, names: Iterable[str]) -> None:
    """Warn once of each keyword or setting that is accepted and has no effect."""
    for name in names:
        warn_once(f"wherry: {where} accepts {name!r} for W&B's sake; it has no effect.", 5)


def say(text: str) -> None:
    """Write a line to stderr, if there is one."""
    if sys.stderr is not None:
        write(sys.stderr, f"wherry: {text}\n")


def write(stream: TextIO, text: str) -> None:
    """Write where a user may look; that nobody can is no reason to stop a program."""
    with contextlib.suppress(OSError, ValueError):  # a broken pipe, a full disk; a closed file
        stream.write(text)
        stream.flush()
