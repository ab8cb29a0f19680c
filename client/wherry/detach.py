"""Runs a command as a process that belongs to nobody: ``python -I -S detach.py COMMAND ARGUMENT …``.

``launch`` runs this file as a script. A daemon that were a child of the training program would be a
zombie when it ends, would surprise the program's own ``wait()``, and would be killed by launchers
that end a process with all its children. So this process stands between: it starts the command with
no signal blocked or ignored and in a session of its own, and ends with it. ``launch`` kills it when
the daemon answers, and the daemon becomes the system's child.
"""

from __future__ import annotations

import os
import signal
import sys

#: Added to the number of the signal that ended the command, as shells do it.
SIGNALLED = 128


def main(command: list[str]) -> int:
    """Start the command, wait for its end, and return its exit code, or 128 + the signal's number."""
    child = os.fork()
    if child == 0:
        _become(command)
    _, status = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else SIGNALLED - code


def _become(command: list[str]) -> None:
    try:
        os.setsid()
        for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        os.execvp(command[0], command)  # noqa: S606 (a list, no shell)
    except OSError as error:
        os.write(2, f"{command[0]} can't be started: {error.strerror}\n".encode())
    finally:
        os._exit(127)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
