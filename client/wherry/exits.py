"""The end of the script. Owns: finishing runs that are still active, and the exit code after that.

An exception in an exit hook does not change a script's exit code. So a failure is only noted, and the
hook that this module registers when ``wherry`` is imported ends the process with code 1: it runs
after every hook that was registered later, the program's own among them.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import sys
from collections.abc import Callable


class _End:
    """What is known at the end."""

    def __init__(self) -> None:
        self.pid = 0  # of the process whose runs are to be finished
        self.failed = False

    def finish_runs(self) -> None:
        """Finish the runs that this process has made; a forked child leaves its parent's alone."""
        if os.getpid() != self.pid:
            return
        from wherry import active

        for run in reversed(active.all_runs()):
            if run.pid == self.pid:
                self._finish(run.finish)

    def _finish(self, finish: Callable[[], None]) -> None:
        try:
            finish()
        except BaseException as error:  # noqa: BLE001 (also Ctrl-C: the other runs have their turn)
            self.failed = True
            sys.excepthook(error.__class__, error, error.__traceback__)

    def leave(self) -> None:
        """End with code 1 if a run could not be finished; in place of the hooks that would follow.

        An exception of the program's own that nobody caught has given the script its code already.
        """
        if self.failed and os.getpid() == self.pid and not hasattr(sys, "last_value"):
            _flush()
            os._exit(1)


def _flush() -> None:
    """Do what the hooks that never run would have done, as far as it is known."""
    logging = sys.modules.get("logging")
    if logging is not None:
        logging.shutdown()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError, AttributeError):
            stream.flush()


_end = _End()
atexit.register(_end.leave)


def note_failure() -> None:
    """Let the script end with code 1, whatever becomes of the exception that is on its way."""
    _end.failed = True


def finish_at_exit() -> None:
    """Finish this process's runs when the script ends."""
    if _end.pid != os.getpid():
        if _end.pid:
            atexit.unregister(_end.finish_runs)
        _end.pid = os.getpid()
        atexit.register(_end.finish_runs)
