"""Whose server a reference's bucket is."""

from __future__ import annotations

import pytest

from wherry.errors import BadURI
from wherry.wire.address import normalize_store
from wherry.wire.object_uri import server_of


@pytest.mark.parametrize(
    ("emulator", "expected"),
    [
        ("", "gs://bucket"),
        ("localhost:4443", "gs://bucket?endpoint_url=http://localhost:4443"),
        ("https://localhost:4443/", "gs://bucket?endpoint_url=https://localhost:4443"),
        ("[::1]:4443", "gs://bucket?endpoint_url=http://%5B::1%5D:4443"),
    ],
)
def test_emulator_is_another_server(emulator: str, expected: str) -> None:
    """The emulator of the program's environment stands in the address, written in one way."""
    address = server_of("gs://bucket/a/key?x#1", {"STORAGE_EMULATOR_HOST": emulator})
    assert address == expected
    assert normalize_store(address, {}) == expected


def test_stores_address_is_written_otherwise() -> None:
    """Other addresses are those of stores."""
    assert normalize_store("s3://bucket?region=r&endpoint_url=http://h:80/", {}) == (
        "s3://bucket?endpoint_url=http://h&region=r"
    )
    with pytest.raises(BadURI):
        normalize_store("gs://?endpoint_url=http://h", {})
