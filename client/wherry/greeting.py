"""Greeting a daemon: who both sides are, what this side may use, and whether they fit together.

Owns: ``Hello`` and the credentials it hands over, waiting for a leaving daemon, replacing an idle one
that is older than this client. Does not own: the calls that follow (``connection``), starting a process
(``launch``).
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from wherry import forks, launch
from wherry.errors import CommError, DaemonLeaving, DaemonTooOld, ProtocolError, WaitTimeoutError
from wherry.wire import PROTOCOL, VERSION, late, places
from wherry.wire.status import ConnectionLost

if TYPE_CHECKING:
    from google.protobuf.message import Message

    from wherry.wire.transport import Transport
    from wherry.wire.wherry_pb2 import HelloReply, HelloRequest

    _Reply = TypeVar("_Reply", bound=Message)

SERVICE = "/wherry.v1.Daemon/"
_HELLO_S = 30.0
_LEAVE_S = 30.0  # a leaving daemon takes 10 s at most


class Greeter:
    """What opens connections to the daemon of one home."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self._opening = forks.ForkLock()
        self._credentials: dict[str, dict[str, str]] = {}
        self.number = 0
        """Counts the changes of what Hello says: connections of an older number are out of date."""

    def offer_credentials(self, store: str, values: Mapping[str, str]) -> None:
        """Hand over credentials at each Hello from now on."""
        if values and self._credentials.get(store) != values:
            self._credentials = {**self._credentials, store: dict(values)}
            self.number += 1

    def open(self, end_s: float | None = None) -> tuple[int, Transport]:
        """Connect to a daemon that takes requests; start it, or wait for the next one, if need be.

        Args:
            end_s: when to give up waiting for a daemon that runs, on the monotonic clock. Raises
                ``WaitTimeoutError`` then.
        """
        asked = 0  # pid of the older daemon that was asked to leave
        with self._opening.held():
            leave_s = time.monotonic() + _LEAVE_S
            for _ in launch.pauses(leave_s if end_s is None else min(leave_s, end_s)):
                greeting = self.number
                try:
                    transport = launch.connect_or_start(self._home, self.dial)
                    with _closed_unless_kept(transport) as keep:
                        hello = self.hello(transport, end_s)
                        if hello.draining or hello.pid == asked:
                            continue
                        if hello.protocol >= PROTOCOL:
                            keep()
                            return greeting, transport
                        asked = _ask_older_to_leave(transport, hello, asked)
                except ConnectionLost:  # it ended meanwhile
                    continue
        if end_s is not None and time.monotonic() >= end_s:
            raise _no_answer(self._home)
        raise DaemonLeaving(f"The daemon of {self._home} has been leaving for {_LEAVE_S:.0f} s.")

    def dial(self) -> Transport | None:
        """Connect without a greeting; None where nobody listens."""
        with late.importing:
            from wherry.wire.dial import NobodyListens
            from wherry.wire.transport import Transport
        try:
            return Transport(places.socket_path(self._home))
        except NobodyListens:
            return None

    def request(self) -> HelloRequest:
        """Make what Hello says."""
        with late.importing:
            from wherry.wire.wherry_pb2 import Credentials, HelloRequest
        return HelloRequest(
            protocol=PROTOCOL,
            client=f"wherry {VERSION}",
            pid=os.getpid(),
            credentials=[
                Credentials(store=store, values=values)
                for store, values in self._credentials.items()
            ],
        )

    def hello(self, transport: Transport, end_s: float | None = None) -> HelloReply:
        """Say Hello on a connection, and return what the daemon says of itself. As ``open``."""
        left_s = _HELLO_S if end_s is None else min(_HELLO_S, max(end_s - time.monotonic(), 0.001))
        with late.importing:
            from wherry.wire.wherry_pb2 import HelloReply
        try:
            sent = (self.request().SerializeToString(),)
            return parsed(HelloReply, transport.unary_reply(SERVICE + "Hello", sent, left_s))
        except WaitTimeoutError as error:
            if left_s < _HELLO_S:
                raise _no_answer(self._home) from error
            raise CommError(
                f"The daemon of {self._home} does not answer.", hint=_how_to_end(self._home)
            ) from error


def _no_answer(home: Path) -> WaitTimeoutError:
    text = f"The daemon of {home} did not answer in time."
    return WaitTimeoutError(text, hint=_how_to_end(home))


def _how_to_end(home: Path) -> str:
    """What helps against a daemon that can't be asked to leave; its lock file names it."""
    hint = "`wherry daemon logs` may show why."
    try:
        pid = int((home / places.INSTANCE_LOCK).read_text(encoding="ascii"))
    except (OSError, ValueError):
        return hint
    return (
        f"{hint} If it was stopped, `kill -CONT {pid}` lets it go on; else `kill {pid}` ends it, if that is"
        f" a wherryd, and `kill -9 {pid}` loses nothing either."
    )


def shut_down(transport: Transport, why: str, *, if_idle: bool) -> bool:
    """Ask the daemon to leave; tell whether it will."""
    with late.importing:
        from wherry.wire.wherry_pb2 import ShutdownReply, ShutdownRequest
    sent = (ShutdownRequest(why=why, if_idle=if_idle).SerializeToString(),)
    reply = transport.unary_reply(SERVICE + "Shutdown", sent, _HELLO_S)
    return parsed(ShutdownReply, reply).accepted


def parsed(reply_type: type[_Reply], data: bytes) -> _Reply:
    """Read a message of the daemon's; raises ``ProtocolError``."""
    from google.protobuf.message import DecodeError

    try:
        return reply_type.FromString(data)
    except DecodeError as error:
        raise ProtocolError(f"The daemon's answer is no {reply_type.__name__}.") from error


@contextmanager
def _closed_unless_kept(transport: Transport) -> Iterator[Callable[[], object]]:
    with ExitStack() as stack:
        stack.callback(transport.close)
        yield stack.pop_all


def _ask_older_to_leave(transport: Transport, hello: HelloReply, asked: int) -> int:
    """Ask an older daemon to leave, once; return its pid."""
    who = f"The daemon (pid {hello.pid}, wherry {hello.version})"
    if asked:
        raise DaemonTooOld(
            f"{who} that was started instead is older than this client, wherry {VERSION}, too.",
            hint="Upgrade what `wherryd` is: pip install --upgrade 'wherry[daemon]'",
        )
    if not shut_down(transport, f"wherry {VERSION} is newer", if_idle=True):
        raise DaemonTooOld(
            f"{who} is older than this client, wherry {VERSION}, and has work.",
            hint="Let it finish (`wherry status` shows its work), or run `wherry daemon stop`.",
        )
    return hello.pid
