"""An exception that nobody expected.

Owns: how it is told; letting a part of the daemon go on after one that it met beside any request. Does not
own: what goes on without a request that met one, and when that is tried again.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from wherry.errors import Defect
from wherryd.clock import Clock, full_jitter
from wherryd.log import get_logger
from wherryd.together import first_of

#: Makes the reason of an exception's request; a simulation raises the exception instead.
NoteDefect = Callable[[Exception, str], Defect]

#: A part that met a defect is started again after up to 1, 2, 4, … 60 s.
_FIRST_REST_S = 1.0
_LONGEST_REST_S = 60.0

_log = get_logger("defects")


def note_defect(error: Exception, what: str) -> Defect:
    """Write the exception and its traceback to the log; return what is told of it.

    Args:
        what: what was worked on, a request's id say.
    """
    _log.error("a defect: please report it", of=what, exc_info=error)
    first = first_of(error)  # a group says only how many are in it
    return Defect(
        f"something in Wherry is broken: {type(first).__name__}: {first}",
        hint="Please report it with the end of daemon.log ('wherry daemon logs' shows it).",
    )


async def keep_going(run: Callable[[], Awaitable[None]], what: str, clock: Clock) -> None:
    """Run a part of the daemon; after a defect start it again, since the other parts work on.

    Args:
        run: finds its work in the queue, so that it may be ended and called again.
        what: the part's name.
    """
    met = 0
    while True:
        try:
            await run()
            return
        except Exception as error:  # noqa: BLE001 - whatever it is, the others must go on
            note_defect(error, what)
        await clock.sleep(full_jitter(clock, met, _FIRST_REST_S, _LONGEST_REST_S))
        met += 1
