"""Calls to the daemon from any thread, in any process, before and after a fork.

Owns: which connection a call gets, and repeating a call that the daemon's end has cut off. Does not own:
for how long (``cut_off``), HTTP/2 (``wire.transport``), Hello (``greeting``), starting the daemon
(``launch``), what the calls mean.

Each connection carries one call at a time, and between calls the stream of its exchanges. Idle ones wait in
a list, whose ``append`` and ``pop`` need no lock. A forked child drops them all, without a word to the
daemon, and makes its own when it needs one.
"""

from __future__ import annotations

import atexit
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, overload

from wherry.cut_off import CutOff
from wherry.errors import CommError, DaemonLeaving, ProtocolError
from wherry.greeting import SERVICE, Greeter, parsed, shut_down
from wherry.wire import late

if TYPE_CHECKING:
    from google.protobuf.message import Message

    from wherry.wire.transport import Transport
    from wherry.wire.wherry_pb2 import HelloReply

    _Reply = TypeVar("_Reply", bound=Message)
    _Form = TypeVar("_Form")

_IDLE = 4
_RESUMED = frozenset({"Wait"})
"""Streams that tell states: begun again in the middle, they tell nothing wrong."""


def connect(home: Path | str) -> Connection:
    """Return this process's connection to a home's daemon; the first call on it connects.

    Args:
        home: from ``wire.places.home()``.
    """
    return _connections.setdefault(str(home), Connection(Path(home)))


class Connection:
    """What talks to the daemon of one home. Threads and forked children may share it.

    Every method may raise ``CommError`` or one of its kinds where the daemon can't be reached, and
    whatever error the daemon answers with.
    """

    def __init__(self, home: Path) -> None:
        self.home = home
        self._greeter = Greeter(home)
        self._idle: list[tuple[int, Transport]] = []  # with the number of its greeting

    def unary(
        self,
        method: str,
        request: Message,
        reply_type: type[_Reply],
        timeout_s: float | None = 60.0,
    ) -> _Reply:
        """Call with one message. Repeated if the daemon ends meanwhile, so it must bear that.

        Args:
            method: its name in ``wherry.proto``: "GetVersion".
            request: the message.
            reply_type: class of the answer.
            timeout_s: for each try; None waits for ever.

        Raises:
            WaitTimeoutError: the time is over.
        """
        return self.client_stream(method, lambda: (request,), reply_type, timeout_s)

    def client_stream(
        self,
        method: str,
        messages: Callable[[], Iterable[Message]],
        reply_type: type[_Reply],
        timeout_s: float | None = 600.0,
    ) -> _Reply:
        """Call with any number of messages; otherwise as ``unary``.

        Args:
            method: as in ``unary``.
            messages: gives the same messages from the first one at each try; called lazily.
            reply_type: as in ``unary``.
            timeout_s: as in ``unary``.
        """

        def call(transport: Transport) -> bytes:
            sent = (message.SerializeToString() for message in messages())
            return transport.unary_reply(SERVICE + method, sent, timeout_s)

        return self._until_answered(call, reply_type)

    def exchange(
        self,
        method: str,
        message: Callable[[], Message],
        reply_type: type[_Reply],
        timeout_s: float | None = 600.0,
    ) -> _Reply:
        """Send one of many messages that each have their answer; otherwise as ``client_stream``.

        Args:
            method: as in ``unary``; the only one of its kind.
            message: gives the same message at each try.
            reply_type: as in ``unary``.
            timeout_s: as in ``unary``.
        """
        return self._until_answered(
            lambda transport: transport.exchange(
                SERVICE + method, message().SerializeToString(), timeout_s
            ),
            reply_type,
        )

    def server_stream(
        self,
        method: str,
        request: Message,
        reply_type: type[_Reply],
        timeout_s: float | None = None,
    ) -> Iterator[_Reply]:
        """Call with one message and hand out the answers as they come.

        The call begins with the first ``next()``; closing the iterator ends it. It is begun again
        where the daemon ends before its first answer, and ``Wait`` at any time.

        Args:
            method: as in ``unary``.
            request: as in ``unary``.
            reply_type: as in ``unary``.
            timeout_s: for all tries together, from the first answer wanted to the last one given.

        Raises:
            WaitTimeoutError: the time is over.
        """
        end_s = None if timeout_s is None else time.monotonic() + timeout_s
        yield from self._stream(method, request, reply_type, end_s, CutOff(self.home))

    @overload
    def whole_stream(
        self,
        method: str,
        request: Message,
        reply_type: type[_Reply],
        *,
        timeout_s: float | None = None,
    ) -> list[_Reply]: ...
    @overload
    def whole_stream(
        self,
        method: str,
        request: Message,
        reply_type: type[_Reply],
        form: Callable[[_Reply], _Form],
        timeout_s: float | None = None,
    ) -> list[_Form]: ...
    def whole_stream(
        self,
        method: str,
        request: Message,
        reply_type: type[_Reply],
        form: Callable[[_Reply], object] | None = None,
        timeout_s: float | None = None,
    ) -> list[Any]:
        """Call with one message and return all answers; begun again where the daemon ends meanwhile.

        Args:
            method: as in ``unary``.
            request: as in ``unary``.
            reply_type: as in ``unary``.
            form: makes of each answer what is kept of it.
            timeout_s: for all tries together.

        Raises:
            WaitTimeoutError: the time is over.
        """
        cut_off = CutOff(self.home)
        end_s = None if timeout_s is None else time.monotonic() + timeout_s
        while True:
            try:
                replies = self._stream(method, request, reply_type, end_s, cut_off)
                return list(map(form, replies) if form else replies)
            except CommError as error:
                cut_off.wait_again(error, end_s)

    def offer_credentials(self, store: str, values: Mapping[str, str]) -> None:
        """Hand credentials over at the next call, and at each connection made from now on.

        Args:
            store: normalized address they are for.
            values: from ``wire.address.credentials_from``; empty offers none.
        """
        self._greeter.offer_credentials(store, values)

    def hello(self) -> HelloReply:
        """Ask the daemon who it is; start one if none runs."""
        with late.importing:
            from wherry.wire.wherry_pb2 import HelloReply
        return self.unary("Hello", self._greeter.request(), HelloReply)

    def ask_running(self) -> HelloReply | None:
        """Ask who is running; None where no daemon is, and none is started.

        One that ends before it has answered runs no more; who came after it is asked.
        """
        cut_off = CutOff(self.home)
        while True:
            transport = self._greeter.dial()
            if transport is None:
                return None
            with closing(transport):
                try:
                    return self._greeter.hello(transport)
                except CommError as error:
                    cut_off.wait_again(error)

    def shut_down(self, why: str, *, if_idle: bool = False) -> bool:
        """Ask a running daemon to leave. Asked once, as the next daemon is not meant.

        Returns:
            False where none runs, or it has work and ``if_idle`` was said.
        """
        transport = self._greeter.dial()
        if transport is None:
            return False
        with closing(transport):
            return shut_down(transport, why, if_idle=if_idle)

    def close(self) -> None:
        """Close the idle connections; the next call makes a new one."""
        while True:
            try:
                self._idle.pop()[1].close()
            except IndexError:
                return

    def drop_inherited(self) -> None:
        """Let go of what the parent had, in a child that was forked just now: ``wire.dial`` closes it."""
        self._idle = []

    @contextmanager
    def _transport(self, end_s: float | None = None) -> Iterator[Transport]:
        """Lend a connection; it is kept if it comes back open."""
        greeting, transport = self._pop_idle() or self._greeter.open(end_s)
        try:
            yield transport
        finally:
            if transport.is_open and greeting == self._greeter.number and len(self._idle) < _IDLE:
                self._idle.append((greeting, transport))
            else:
                transport.close()

    def _pop_idle(self) -> tuple[int, Transport] | None:
        while True:
            try:
                greeting, transport = self._idle.pop()
            except IndexError:
                return None
            if greeting == self._greeter.number and transport.usable():
                return greeting, transport
            transport.close()

    def _until_answered(
        self, call: Callable[[Transport], bytes], reply_type: type[_Reply]
    ) -> _Reply:
        cut_off = CutOff(self.home)
        while True:
            with self._transport() as transport:
                try:
                    return parsed(reply_type, call(transport))
                except CommError as error:
                    self._let_go(error, transport)
                    cut_off.wait_again(error)

    def _stream(
        self,
        method: str,
        request: Message,
        reply_type: type[_Reply],
        end_s: float | None,
        cut_off: CutOff,
    ) -> Iterator[_Reply]:
        """Hand out the answers; a cut after the first one is raised, but of what may be resumed."""
        answered = False
        while True:
            with self._transport(end_s) as transport:
                left_s = None if end_s is None else max(end_s - time.monotonic(), 0.001)
                sent = (request.SerializeToString(),)
                try:
                    with closing(transport.replies(SERVICE + method, sent, left_s)) as replies:
                        for reply in replies:
                            if method in _RESUMED:
                                cut_off.note_progress()
                            else:
                                answered = True
                            yield parsed(reply_type, reply)
                    return
                except CommError as error:
                    self._let_go(error, transport)
                    if answered:
                        raise
                    cut_off.wait_again(error, end_s)

    def _let_go(self, error: CommError, transport: Transport) -> None:
        """Close what the next call must not meet."""
        if isinstance(error, (DaemonLeaving, ProtocolError)):
            transport.close()
            self.close()


_connections: dict[str, Connection] = {}


def _drop_inherited() -> None:
    for connection in _connections.values():
        connection.drop_inherited()


@atexit.register
def _close() -> None:
    for connection in _connections.values():
        connection.close()


os.register_at_fork(after_in_child=_drop_inherited)
