"""What an answer's head says."""

from __future__ import annotations

import pytest

from wherry.errors import ReferenceFailed, ReferenceUnavailable
from wherryd.references.answers import etag_digest, is_same_etag, refusal, size_of
from wherryd.stores.http.answers import retry_after_s


@pytest.mark.parametrize(
    ("header", "digest"),
    [
        ('"abc"', "etag:abc"),
        ('W/"abc"', 'etag:W/"abc"'),
        ("bare", "etag:bare"),
        ("", None),
        (None, None),
    ],
)
def test_etag_is_changed(header: str | None, digest: str | None) -> None:
    """A strong ETag stands without its quotes, a weak one as it was given, none as no digest."""
    assert etag_digest(header) == digest


def test_weak_etag_is_taken_for_another() -> None:
    """ETags are compared weakly: a server that compresses makes a strong one weak."""
    assert is_same_etag("etag:a", 'etag:W/"a"')
    assert not is_same_etag("etag:a", "etag:b")
    assert not is_same_etag("etag:a", None)
    assert is_same_etag(None, None)


@pytest.mark.parametrize(
    ("headers", "size"),
    [
        ({"Content-Length": "12"}, 12),
        ({"Content-Length": "1", "Content-Range": "bytes 0-0/12"}, 12),
        ({"Content-Length": "0", "Content-Range": "bytes */0"}, 0),
        ({"Content-Length": "1", "Content-Range": "bytes 0-0/*"}, None),
        ({"Content-Length": "many"}, None),
        ({}, None),
    ],
)
def test_size_is_that_of_a_part(headers: dict[str, str], size: int | None) -> None:
    """The size is that of the whole object, and unknown where the server does not tell it."""
    assert size_of(headers) == size


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("7", 7.0),
        ("Thu, 01 Jan 1970 00:01:00 GMT", 60.0),
        ("Thu, 01 Jan 1970 00:00:01 GMT", 0.0),
        ("soon", None),
        (None, None),
    ],
)
def test_retry_after_is_misread(text: str | None, seconds: float | None) -> None:
    """Seconds and dates are understood; a date that is past means now."""
    got = retry_after_s(text, now=0.0 if seconds else 30.0)
    assert got == seconds


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504])
def test_passing_refusal_is_final(status: int) -> None:
    """What may go better soon is tried again, no sooner than the server asks."""
    error = refusal("http://h/x", "h", status, {"Retry-After": "9"}, 0.0)
    assert isinstance(error, ReferenceUnavailable)
    assert (error.host, error.retry_after_s) == ("h", 9.0)


@pytest.mark.parametrize("status", [300, 400, 401, 403, 404, 410, 451])
def test_final_refusal_is_tried_again(status: int) -> None:
    """What a server refuses for good fails, with status and URI."""
    error = refusal("http://h/x", "h", status, {}, 0.0)
    assert isinstance(error, ReferenceFailed)
    assert str(status) in str(error)
    assert "http://h/x" in str(error)
