"""The end of the script. Owns: finishing runs that are still active, and the exit code after that.

An exception in an exit hook does not change a script's exit code. So a failure is only noted, and the
hook that this module registers when ``wherry`` is imported has the C library end the process with code 1
at the very last: hooks of the program's and of other modules run before that, whenever they were
registered. What the C library was told before, by other libraries, to do at its end is left out.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import sys
import weakref


class _End:
    """What is known at the end."""

    def __init__(self) -> None:
        self.pid = 0  # of the process whose runs are to be finished
        self.failed = False
        self._last_value: BaseException | None = None
        self.note_last_value()
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
        """Let the process end with code 1 if a run could not be finished."""
        self.finish_runs()  # those that hooks have begun
        if self.failed and os.getpid() == self.pid and not self._is_interrupted():
            _end_with_1()

    def note_last_value(self) -> None:
        """Remember what was printed at a prompt before: it did not end the script."""
        self._last_value = getattr(sys, "last_value", None)

    def _is_interrupted(self) -> bool:
        """Whether Ctrl-C ended the script: then it ends by that signal. Other exceptions give it code 1."""
        last = getattr(sys, "last_value", None)
        return isinstance(last, KeyboardInterrupt) and last is not self._last_value


def _end_with_1() -> None:
    """Have the C library end the process with code 1, after all of Python's own end, exit hooks included.

    Where it can't be asked, end here, with what is known of the hooks that then never run.
    """
    try:
        import ctypes

        libc = ctypes.CDLL(None)
        at_exit, end, flush = libc["__cxa_atexit"], libc["_exit"], libc["fflush"]
        # The last one in is the first that is called (exit(3)).
        asked = [at_exit(end, ctypes.c_void_p(1), None), at_exit(flush, None, None)]
    except (ImportError, OSError, AttributeError):
        asked = [-1]
    if any(asked):
        _run_known_hooks()
        _flush()
        os._exit(1)


def _run_known_hooks() -> None:
    """Do what hooks of the standard library would have done that were registered before ours."""
    children = getattr(sys.modules.get("multiprocessing.util"), "_exit_function", None)
    folders = getattr(weakref.finalize, "_exitfunc", None)
    for hook in (children, folders):
        if hook is not None:
            with contextlib.suppress(Exception):
                hook()


def _flush() -> None:
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
    _end.note_last_value()
    if _end.pid != os.getpid():
        if _end.pid:
            atexit.unregister(_end.finish_runs)
        _end.pid, _end.failed = os.getpid(), False
        atexit.register(_end.finish_runs)
