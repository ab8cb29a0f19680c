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


class _End:
    """What is known at the end."""

    def __init__(self) -> None:
        self.pid = 0  # of the process whose runs are to be finished
        self.failed = False
        self.finishing = False  # in a hook, where no SystemExit counts any more

    def finish_runs(self) -> None:
        """Finish the runs that this process has made; a forked child leaves its parent's alone."""
        if os.getpid() != self.pid:
            return
        from wherry import active, finishing

        self.finishing = True
        runs = [run for run in reversed(active.all_runs()) if run.pid == self.pid]
        try:
            finishing.finish([ending for run in runs if (ending := run.end()) is not None])
        except SystemExit:
            pass  # the script is ending already; what is not safe was told
        except BaseException as error:  # noqa: BLE001 (also Ctrl-C, which nobody else will see)
            self.failed = True
            sys.excepthook(error.__class__, error, error.__traceback__)

    def leave(self) -> None:
        """End with code 1 if a run could not be finished; in place of the hooks that would follow.

        An exception of the program's own that nobody caught has given the script its code already.
        """
        self.finish_runs()  # those that hooks have begun
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


def note_failure(error: BaseException) -> None:
    """Let the script end with code 1.

    Args:
        error: is on its way; if it is a ``SystemExit`` with a code, that stays the script's.
    """
    gives_code = isinstance(error, SystemExit) and error.code and not _end.finishing
    _end.failed = _end.failed or not gives_code


def finish_at_exit() -> None:
    """Finish this process's runs when the script ends."""
    if _end.pid != os.getpid():
        if _end.pid:
            atexit.unregister(_end.finish_runs)
        _end.pid = os.getpid()
        atexit.register(_end.finish_runs)
