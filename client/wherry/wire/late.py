"""Imports that wait for their first use, and forks that wait for such an import.

Owns: one lock. Whoever imports protobuf's messages or the transport inside a function does so under
it, and every fork takes it first: else a child forked in the middle of another thread's import would
find the module locked by a thread that it does not have, and wait for ever.
"""

from __future__ import annotations

import os
import threading

importing = threading.RLock()
"""Hold it around ``from wherry.wire import wherry_pb2`` and the like."""

os.register_at_fork(
    before=importing.acquire, after_in_parent=importing.release, after_in_child=importing.release
)
