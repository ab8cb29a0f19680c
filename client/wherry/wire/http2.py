"""HTTP/2 as the transport uses it: ``h2`` with our settings, and the headers of a gRPC request.

Owns: window and frame sizes, what is sent first on a connection, going on after a GOAWAY. Does not own:
the socket and the calls (``transport``).
"""

from __future__ import annotations

import h2.config
import h2.connection
import h2.settings

from wherry.wire.status import timeout_text

_WINDOW_BYTES = 8 << 20
_FRAME_BYTES = 1 << 20

_CONFIG = h2.config.H2Configuration(
    client_side=True,
    header_encoding=None,
    validate_outbound_headers=False,
    normalize_outbound_headers=False,
    validate_inbound_headers=False,
    normalize_inbound_headers=False,
)
_SETTINGS: dict[h2.settings.SettingCodes | int, int] = {
    h2.settings.SettingCodes.ENABLE_PUSH: 0,
    h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: _WINDOW_BYTES,
    h2.settings.SettingCodes.MAX_FRAME_SIZE: _FRAME_BYTES,
}
_HEADERS = (
    (b":method", b"POST"),
    (b":scheme", b"http"),
    (b":authority", b"localhost"),
    (b"te", b"trailers"),
    (b"content-type", b"application/grpc"),
    (b"user-agent", b"wherry"),
)


class Http2(h2.connection.H2Connection):
    """A client's side of a connection, its preface waiting to be sent.

    Windows and frames are large, since each costs the same in Python whatever its size.
    """

    def __init__(self) -> None:
        super().__init__(_CONFIG)
        # h2 would apply it after the bytes that bring the acknowledgement, which may bring such a frame
        self.max_inbound_frame_size = _FRAME_BYTES
        self.initiate_connection()
        self.update_settings(_SETTINGS)
        self.increment_flow_control_window(_WINDOW_BYTES - 65_535)

    def _receive_frame(self, frame):  # type: ignore[no-untyped-def]
        # h2 writes each frame out, all its bytes as hexadecimal digits, for a log line that nobody sees:
        # a third of a download's time.
        frame._body_repr = _no_text  # noqa: SLF001 (h2 leaves no other way)
        return super()._receive_frame(frame)

    def _receive_goaway_frame(self, frame):  # type: ignore[no-untyped-def]
        # h2 takes any GOAWAY for the connection's end and would refuse the frames that follow; but the
        # call under way goes on (RFC 9113 section 6.8).
        state = self.state_machine.state
        received = super()._receive_goaway_frame(frame)
        self.state_machine.state = state
        return received


def _no_text() -> str:
    return ""


def request_headers(method: str, timeout_s: float | None) -> list[tuple[bytes, bytes]]:
    """Make a call's headers, those with a colon first."""
    headers = [(b":path", method.encode()), *_HEADERS]
    if timeout_s is not None:
        headers.append((b"grpc-timeout", timeout_text(timeout_s).encode()))
    return headers
