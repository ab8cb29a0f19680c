"""What Wherry says without being asked. Owns: that each thing is said once, and on stderr.

A program may put any object in a stream's place; many have ``write`` and ``flush`` and no more. Whatever
such an object raises is no reason to stop the program.
"""

from __future__ import annotations

import contextlib
import os
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


def warn_of_ignored(where: str, names: Iterable[str], stack_level: int = 4) -> None:
    """Warn once of each keyword or setting that is accepted and has no effect."""
    for name in names:
        text = f"wherry: {where} accepts {name!r} for W&B's sake; it has no effect."
        warn_once(text, stack_level)


def warn_of_no_registry(call: str) -> None:
    """Warn once of a call that links versions elsewhere."""
    warn_once(f"wherry: {call} links nothing: there is no registry. Give an alias instead.", 4)


def say(text: str) -> None:
    """Write a line to stderr, if there is one."""
    if sys.stderr is not None:
        write(sys.stderr, f"wherry: {text}\n")


def write(stream: TextIO, text: str) -> None:
    """Write where a user may look, if that is possible."""
    with contextlib.suppress(Exception):  # a broken pipe, a full disk, a closed file; no flush
        stream.write(text)
        stream.flush()


def is_terminal(stream: TextIO) -> bool:
    """Tell whether a stream is a terminal, as far as it can say."""
    try:
        return bool(stream.isatty())
    except Exception:  # noqa: BLE001 (a closed file; an object without isatty)
        return False


def width(stream: TextIO) -> int:
    """Give a terminal's columns; 80 where it can't say."""
    try:
        return os.get_terminal_size(stream.fileno()).columns or 80
    except Exception:  # noqa: BLE001 (no terminal; an object without fileno)
        return 80
