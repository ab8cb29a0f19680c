"""An exception that nobody expected, while one request was worked on.

Owns: how it is told. Does not own: what goes on without the request, and when that is tried again.
"""

from __future__ import annotations

from collections.abc import Callable

from wherry.errors import Defect
from wherryd.log import get_logger

#: Makes the reason of an exception's request; a simulation raises the exception instead.
NoteDefect = Callable[[Exception, str], Defect]

_log = get_logger("defects")


def note_defect(error: Exception, what: str) -> Defect:
    """Write the exception and its traceback to the log; return what is told of it.

    Args:
        what: what was worked on, a request's id say.
    """
    _log.error("a defect: please report it", of=what, exc_info=error)
    return Defect(
        f"something in Wherry is broken: {type(error).__name__}: {error}",
        hint="Please report it with the end of daemon.log ('wherry daemon logs' shows it).",
    )
