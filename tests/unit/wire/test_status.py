from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wherry import errors
from wherry.wire.status import ConnectionLost, Messages, error_of, prefix, timeout_text


@given(st.lists(st.binary(max_size=40)), st.integers(1, 7))
def test_message_depends_on_how_it_was_cut(sent: list[bytes], piece: int) -> None:
    """Messages come out whole and in order, in whatever pieces their bytes came."""
    data = b"".join(prefix(len(message)) + message for message in sent)
    messages = Messages()
    received: list[bytes] = []
    for at in range(0, len(data), piece):
        messages.feed(data[at : at + piece])
        received += messages.complete()
    assert received == sent
    assert not messages


@pytest.mark.parametrize("data", [b"\x01\0\0\0\x01x", b"\0\xff\xff\xff\xff"])
def test_senseless_prefix_is_waited_for(data: bytes) -> None:
    """A compressed message, and one that no memory could hold, is an error."""
    messages = Messages()
    messages.feed(data)
    with pytest.raises(errors.ProtocolError):
        list(messages.complete())


@given(st.floats(1e-9, 1e12))
def test_timeout_has_nine_digits(seconds: float) -> None:
    """At most eight digits and a unit; never zero, and never more than was given but for one unit."""
    text = timeout_text(seconds)
    assert 1 <= len(text[:-1]) <= 8
    unit = {"u": 1e-6, "m": 1e-3, "S": 1.0}[text[-1]]
    written = int(text[:-1]) * unit
    assert 0 < written <= max(seconds, unit) * (1 + 1e-9)
    assert written >= min(seconds - unit, 99_999_999)


_OK = {":status": "200"}


@pytest.mark.parametrize(
    ("headers", "expected", "text"),
    [
        ({":status": "503"}, errors.ProtocolError, "503"),
        ({":status": "200"}, errors.ProtocolError, "without a status"),
        ({**_OK, "grpc-status": "x"}, errors.ProtocolError, "without a status"),
        ({**_OK, "grpc-status": "99"}, errors.CommError, "status 99"),
        ({**_OK, "grpc-status": "8", "grpc-message": "full"}, errors.CommError, "full"),
        ({**_OK, "grpc-status": "14"}, ConnectionLost, "UNAVAILABLE"),
        ({**_OK, "grpc-status": "1"}, ConnectionLost, "CANCELLED"),  # as a server that ends says
        ({**_OK, "grpc-status": "9", "wherry-error": "SpoolFull"}, errors.SpoolFull, ""),
        ({**_OK, "grpc-status": "9", "wherry-error": "New"}, errors.WherryError, ""),
        (
            {**_OK, "grpc-status": "13", "grpc-message": "%C3%A9 %zz %4"},
            errors.CommError,
            "é %zz %4",
        ),
        ({**_OK, "grpc-status": "13", "grpc-message": "%ff"}, errors.CommError, "\ufffd"),
    ],
)
def test_end_of_a_call_is_misread(
    headers: dict[str, str], expected: type[errors.WherryError], text: str
) -> None:
    """The last headers say what went wrong, however odd they are."""
    error = error_of("Log", headers)
    assert type(error) is expected
    assert text in str(error)


def test_success_is_an_error() -> None:
    """Status 0 is success."""
    assert error_of("Log", {**_OK, "grpc-status": "0"}) is None


def test_code_is_forgotten() -> None:
    """Each of gRPC's codes becomes an error that names the call."""
    seen = [error_of("Log", {**_OK, "grpc-status": str(code)}) for code in range(1, 17)]
    assert all(error and "Log" in str(error) for error in seen)
    assert len({type(error) for error in seen}) == len({*map(type, itertools.chain(seen))}) > 4
