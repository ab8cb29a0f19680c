"""The transport against a peer that does what a stock server rarely does."""

from __future__ import annotations

import select
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import h2.config
import h2.connection
import h2.events
import h2.settings
import hyperframe.frame
import pytest

from wherry import errors
from wherry.wire.dial import NobodyListens
from wherry.wire.status import ConnectionLost, prefix
from wherry.wire.transport import Transport

_OK = [(":status", "200"), ("content-type", "application/grpc")]
_DONE = [("grpc-status", "0")]


class Peer:
    """The other end of one connection, as a script sees it."""

    def __init__(self, connected: socket.socket) -> None:
        self.socket = connected
        self.h2 = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False))
        self.h2.initiate_connection()
        self.events: list[h2.events.Event] = []
        self.flush()

    def flush(self) -> None:
        """Send what is waiting."""
        self.socket.sendall(self.h2.data_to_send())

    def wait_event(self, kind: type[h2.events.Event]) -> h2.events.Event:
        """Read until an event of this kind has come; it and those before it are forgotten."""
        while True:
            while self.events:
                event = self.events.pop(0)
                if isinstance(event, kind):
                    return event
            data = self.socket.recv(65_536)
            assert data, "the client hung up"
            self.events += self.h2.receive_data(data)
            self.flush()

    def wait_request(self) -> int:
        """Read a whole request; returns its stream."""
        event = self.wait_event(h2.events.StreamEnded)
        assert isinstance(event, h2.events.StreamEnded)
        return event.stream_id

    def answer(self, stream: int, message: bytes = b"hello") -> None:
        """Answer with one message and success."""
        self.h2.send_headers(stream, _OK)
        self.h2.send_data(stream, prefix(len(message)) + message)
        self.h2.send_headers(stream, _DONE, end_stream=True)
        self.flush()


Script = Callable[[Peer], None]


@pytest.fixture
def connected(tmp_path: Path) -> Iterator[Callable[[Script], Transport]]:
    """Connect transports to peers that follow scripts; a script's error is the test's."""
    threads: list[threading.Thread] = []
    failures: list[BaseException] = []
    transports: list[Transport] = []

    def connect(script: Script) -> Transport:
        listening = socket.socket(socket.AF_UNIX)
        listening.bind(str(tmp_path / "s"))
        listening.listen()

        def follow() -> None:
            try:
                with listening, listening.accept()[0] as accepted:
                    accepted.settimeout(30)
                    script(Peer(accepted))
            except BrokenPipeError:
                pass  # the client left before the peer had said all, which the client's own outcome tells
            except BaseException as error:  # noqa: BLE001 (whatever it is, the test fails)
                failures.append(error)

        threads.append(threading.Thread(target=follow))
        threads[-1].start()
        transports.append(Transport(tmp_path / "s"))
        return transports[-1]

    yield connect
    for transport in transports:
        transport.close()
    for thread in threads:
        thread.join()
    assert failures == []


def call(transport: Transport, *messages: bytes) -> bytes:
    """Make a call."""
    return transport.unary_reply("/s/Call", messages or (b"request",), 30)


def test_ping_stays_unanswered(connected: Callable[[Script], Transport]) -> None:
    """A ping is answered during a call, and one that came meanwhile before the next call."""
    answered = threading.Event()
    pinged = threading.Event()

    def script(peer: Peer) -> None:
        stream = peer.wait_request()
        peer.h2.ping(b"12345678")
        peer.flush()
        peer.wait_event(h2.events.PingAckReceived)
        peer.answer(stream)
        answered.wait(30)
        peer.h2.ping(b"12345678")
        peer.flush()
        pinged.set()
        peer.wait_event(h2.events.PingAckReceived)
        peer.answer(peer.wait_request())

    transport = connected(script)
    assert call(transport) == b"hello"
    answered.set()
    pinged.wait(30)
    assert transport.usable()
    assert call(transport) == b"hello"


def test_tiny_windows_stall_the_stream(connected: Callable[[Script], Transport]) -> None:
    """Sending keeps to the peer's window, and goes on as it opens."""
    body = bytes(range(256)) * 40
    received = bytearray()

    def script(peer: Peer) -> None:
        peer.h2.update_settings({h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: 100})
        peer.flush()
        peer.answer(peer.wait_request())  # with it the client learns the window
        while len(received) < len(body) + 5:
            event = peer.wait_event(h2.events.DataReceived)
            assert isinstance(event, h2.events.DataReceived) and event.data is not None
            assert len(event.data) <= 100
            received.extend(event.data)
            peer.h2.acknowledge_received_data(event.flow_controlled_length or 0, event.stream_id)
            peer.flush()
        peer.answer(peer.wait_request())

    transport = connected(script)
    call(transport)
    assert call(transport, body) == b"hello"
    assert received == prefix(len(body)) + body


def test_trailers_only_answer_is_misread(connected: Callable[[Script], Transport]) -> None:
    """An answer of headers alone carries its status; the connection goes on."""

    def script(peer: Peer) -> None:
        stream = peer.wait_request()
        headers = [*_OK, ("grpc-status", "9"), ("wherry-error", "BadName"), ("grpc-message", "%41")]
        peer.h2.send_headers(stream, headers, end_stream=True)
        peer.flush()
        peer.answer(peer.wait_request())

    transport = connected(script)
    with pytest.raises(errors.BadName, match="A"):
        call(transport)
    assert call(transport) == b"hello"


def _reset(code: int) -> Script:
    def script(peer: Peer) -> None:
        peer.h2.reset_stream(peer.wait_request(), code)
        peer.flush()

    return script


def _go_away(peer: Peer) -> None:
    peer.wait_request()
    peer.h2.close_connection(last_stream_id=0)
    peer.flush()


def _hang_up(peer: Peer) -> None:
    peer.wait_request()


def _cut_in_message(peer: Peer) -> None:
    stream = peer.wait_request()
    peer.h2.send_headers(stream, _OK)
    peer.h2.send_data(stream, prefix(100) + b"x")
    peer.h2.send_headers(stream, _DONE, end_stream=True)
    peer.flush()


def _no_status(peer: Peer) -> None:
    stream = peer.wait_request()
    peer.h2.send_headers(stream, _OK)
    peer.h2.send_data(stream, prefix(0), end_stream=True)
    peer.flush()


def _no_message(peer: Peer) -> None:
    peer.h2.send_headers(peer.wait_request(), [*_OK, *_DONE], end_stream=True)
    peer.flush()


def _http_error(peer: Peer) -> None:
    peer.h2.send_headers(peer.wait_request(), [(":status", "502")], end_stream=True)
    peer.flush()


def _no_http(peer: Peer) -> None:
    peer.wait_request()
    peer.socket.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n" * 100)


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        (_reset(7), ConnectionLost),
        (_reset(8), errors.CommError),
        (_go_away, ConnectionLost),
        (_hang_up, ConnectionLost),
        (_cut_in_message, errors.ProtocolError),
        (_no_status, errors.ProtocolError),
        (_no_message, errors.ProtocolError),
        (_http_error, errors.ProtocolError),
        (_no_http, errors.CommError),
    ],
)
def test_broken_answer_is_taken(
    connected: Callable[[Script], Transport], script: Script, expected: type[Exception]
) -> None:
    """Whatever goes wrong on the connection is an error of ours, of the kind that says what it means."""
    transport = connected(script)
    with pytest.raises(expected) as caught:
        call(transport)
    assert type(caught.value) is expected or expected is errors.CommError


@pytest.mark.parametrize("size", [1, 100_000_000])
def test_silent_peer_is_waited_for(connected: Callable[[Script], Transport], size: int) -> None:
    """A peer that says nothing, or reads nothing, is waited for until the deadline, and then left."""
    left = threading.Event()
    transport = connected(lambda peer: assert_(left.wait(30)))
    with pytest.raises(errors.WaitTimeoutError):
        transport.unary_reply("/s/Call", [bytes(size)], 0.1)
    left.set()
    assert not transport.usable()


def assert_(holds: bool) -> None:
    """Assert where a statement can't be."""
    assert holds


def test_second_answer_is_passed_over(connected: Callable[[Script], Transport]) -> None:
    """A unary call with two answers is a protocol error."""

    def script(peer: Peer) -> None:
        stream = peer.wait_request()
        peer.h2.send_headers(stream, _OK)
        peer.h2.send_data(stream, prefix(1) + b"a" + prefix(1) + b"b")
        peer.h2.send_headers(stream, _DONE, end_stream=True)
        peer.flush()

    with pytest.raises(errors.ProtocolError, match="2 answers"):
        call(connected(script))


def test_goaway_cuts_off_the_call_it_allows(connected: Callable[[Script], Transport]) -> None:
    """After a GOAWAY that covers the call its answer is taken, even in the same packet."""

    def script(peer: Peer) -> None:
        stream = peer.wait_request()
        goaway = b"\0\0\x08\x07\0\0\0\0\0\x7f\xff\xff\xff\0\0\0\0"
        peer.h2.send_headers(stream, _OK)
        peer.h2.send_data(stream, prefix(5) + b"hello")
        peer.h2.send_headers(stream, _DONE, end_stream=True)
        peer.socket.sendall(goaway + peer.h2.data_to_send())

    transport = connected(script)
    assert call(transport) == b"hello"
    assert not transport.usable()


def test_answer_of_a_peer_that_left_is_lost(connected: Callable[[Script], Transport]) -> None:
    """An answer that came in counts, though the peer is gone when its bytes are acknowledged."""

    def script(peer: Peer) -> None:
        stream = peer.wait_request()
        peer.socket.shutdown(socket.SHUT_RD)
        peer.h2.ping(b"12345678")
        peer.answer(stream, bytes(60_000))

    transport = connected(script)
    assert call(transport) == bytes(60_000)
    assert not transport.usable()


def test_frames_are_written_out(
    connected: Callable[[Script], Transport], monkeypatch: pytest.MonkeyPatch
) -> None:
    """No frame that comes in is made text for h2's trace: of a download's bytes that takes a third."""
    written: list[bytes | None] = []
    monkeypatch.setattr(hyperframe.frame, "_raw_data_repr", written.append)

    def script(peer: Peer) -> None:
        peer.answer(peer.wait_request(), bytes(60_000))

    transport = connected(script)
    assert call(transport) == bytes(60_000)
    assert all(len(data or b"") < 1_000 for data in written)


# ── a stream of exchanges ──────────────────────────────────────────────────────────────────────
def exchange(transport: Transport, timeout_s: float = 30) -> bytes:
    """Send one of many messages."""
    return transport.exchange("/s/Many", b"request", timeout_s)


def _wait_message(peer: Peer) -> int:
    """Read one message of an open stream; returns the stream."""
    event = peer.wait_event(h2.events.DataReceived)
    assert isinstance(event, h2.events.DataReceived)
    assert event.data == prefix(7) + b"request"
    return event.stream_id


def _say(peer: Peer, stream: int, *messages: bytes) -> None:
    for message in messages:
        peer.h2.send_data(stream, prefix(len(message)) + message)
    peer.flush()


def _answer_first(peer: Peer) -> int:
    stream = _wait_message(peer)
    peer.h2.send_headers(stream, _OK)
    _say(peer, stream, b"first")
    return stream


def _end_well(peer: Peer, stream: int) -> None:
    peer.h2.send_headers(stream, _DONE, end_stream=True)
    peer.flush()


def _reset_stream(peer: Peer, stream: int) -> None:
    peer.h2.reset_stream(stream, 8)
    peer.flush()


def _speak_unasked(peer: Peer, stream: int) -> None:
    _say(peer, stream, b"unasked")


@pytest.mark.parametrize("unasked", [_end_well, _reset_stream, _speak_unasked])
@pytest.mark.parametrize("is_seen_in_a_call", [False, True])
def test_what_nobody_asked_for_is_the_next_answer(
    connected: Callable[[Script], Transport],
    unasked: Callable[[Peer, int], None],
    is_seen_in_a_call: bool,
) -> None:
    """What the peer says on a stream that waits for its next message ends the connection's use; a call
    that is under way gets its answer.
    """
    asked, said = threading.Event(), threading.Event()

    def script(peer: Peer) -> None:
        stream = _answer_first(peer)
        if is_seen_in_a_call:
            called = peer.wait_request()
            unasked(peer, stream)
            peer.answer(called)
        else:
            asked.wait(30)
            unasked(peer, stream)
        said.set()

    transport = connected(script)
    assert exchange(transport) == b"first"
    if is_seen_in_a_call:
        assert call(transport) == b"hello"
    asked.set()
    said.wait(30)
    assert not transport.usable()


def _end_in_the_answer(peer: Peer, stream: int) -> None:
    peer.h2.send_data(stream, prefix(100) + b"x")
    peer.h2.send_headers(stream, _DONE, end_stream=True)
    peer.flush()


def _answer_twice(peer: Peer, stream: int) -> None:
    peer.h2.send_data(stream, prefix(1) + b"a" + prefix(1) + b"b")
    peer.flush()


def _refuse(peer: Peer, stream: int) -> None:
    trailers = [("grpc-status", "9"), ("wherry-error", "BadName"), ("grpc-message", "%41")]
    peer.h2.send_headers(stream, trailers, end_stream=True)
    peer.flush()


def _cancel(peer: Peer, stream: int) -> None:
    peer.h2.send_headers(stream, [("grpc-status", "1")], end_stream=True)
    peer.flush()


@pytest.mark.parametrize(
    ("end", "expected", "lasts"),
    [
        (_end_well, ConnectionLost, True),
        (_end_in_the_answer, errors.ProtocolError, False),
        (_answer_twice, errors.ProtocolError, False),
        (_refuse, errors.BadName, True),
        (_cancel, ConnectionLost, True),
        (_reset_stream, errors.CommError, False),
        (lambda peer, _: peer.socket.close(), ConnectionLost, False),
    ],
)
def test_broken_exchange_is_taken(
    connected: Callable[[Script], Transport],
    end: Callable[[Peer, int], None],
    expected: type[Exception],
    lasts: bool,
) -> None:
    """Whatever the second exchange meets instead of an answer is its error; if the connection lasts, the
    next one begins a stream of its own.
    """

    def script(peer: Peer) -> None:
        stream = _answer_first(peer)
        assert _wait_message(peer) == stream
        end(peer, stream)
        if lasts:
            assert _answer_first(peer) > stream

    transport = connected(script)
    assert exchange(transport) == b"first"
    with pytest.raises(expected) as caught:
        exchange(transport)
    assert type(caught.value) is expected
    assert transport.usable() == lasts
    if lasts:
        assert exchange(transport) == b"first"


def test_last_answer_of_a_stream_is_lost(connected: Callable[[Script], Transport]) -> None:
    """An answer that comes together with the stream's end counts."""

    def script(peer: Peer) -> None:
        stream = _wait_message(peer)
        peer.h2.send_headers(stream, _OK)
        peer.h2.send_data(stream, prefix(5) + b"first")
        peer.h2.send_headers(stream, _DONE, end_stream=True)
        peer.flush()
        assert _answer_first(peer) > stream

    transport = connected(script)
    assert exchange(transport) == b"first"
    assert exchange(transport) == b"first"


class _Late:
    """A poll of a program that gets the processor only when all has come in."""

    def __init__(self, poll: select.poll) -> None:
        self._poll = poll

    def poll(self, timeout_ms: int) -> object:
        """Look, late."""
        threading.Event().wait(0.2)
        return self._poll.poll(timeout_ms)


@pytest.mark.parametrize("is_call", [False, True])
def test_answer_that_comes_while_a_large_message_is_sent_is_lost(
    connected: Callable[[Script], Transport], is_call: bool
) -> None:
    """What comes in while windows are looked for is the answer, with the call's end or without."""
    body, taken = bytes(300_000), threading.Event()

    def script(peer: Peer) -> None:
        peer.h2.update_settings({h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: 1 << 20})
        peer.h2.increment_flow_control_window(1 << 20)
        peer.flush()
        received, stream = 0, 0
        if not is_call:
            _answer_first(peer)
        while received < len(body) + 5:
            event = peer.wait_event(h2.events.DataReceived)
            assert isinstance(event, h2.events.DataReceived) and event.data is not None
            received, stream = received + len(event.data), event.stream_id
        if is_call:
            peer.answer(stream)
        else:
            _say(peer, stream, b"hello")
        taken.wait(30)

    transport = connected(script)
    if not is_call:
        assert exchange(transport) == b"first"
    transport._poll = _Late(transport._poll)  # type: ignore[assignment]
    if is_call:
        assert call(transport, body) == b"hello"
    else:
        assert transport.exchange("/s/Many", body, 5) == b"hello"
    taken.set()


def test_deadline_of_an_exchange_is_the_next_ones(
    connected: Callable[[Script], Transport],
) -> None:
    """Each exchange has its own time, however long the stream has been open."""

    def script(peer: Peer) -> None:
        stream = _answer_first(peer)
        assert _wait_message(peer) == stream
        _say(peer, stream, b"second")

    transport = connected(script)
    assert exchange(transport, 0.3) == b"first"
    threading.Event().wait(0.4)
    assert exchange(transport, 30) == b"second"


def test_closed_transport_makes_a_call(connected: Callable[[Script], Transport]) -> None:
    """After `close` calls fail, and closing again is nothing."""
    accepted = threading.Event()
    transport = connected(lambda peer: accepted.set())
    accepted.wait(30)
    transport.close()
    transport.close()
    assert not transport.usable()
    with pytest.raises(ConnectionLost):
        call(transport)


def test_missing_daemon_is_a_broken_one(tmp_path: Path) -> None:
    """No socket and a stale one mean that nobody listens; what is no socket is another error."""
    with closing(socket.socket(socket.AF_UNIX)) as stale:
        stale.bind(str(tmp_path / "stale"))
    for name in ("missing", "stale"):
        with pytest.raises(NobodyListens):
            Transport(tmp_path / name)
    (tmp_path / "file").touch()
    with pytest.raises(errors.CommError):
        Transport(tmp_path / "file" / "s")
