"""Signatures with a hash that was made before."""

from __future__ import annotations

import io

from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import ReadOnlyCredentials

from wherryd.stores.s3.answers import NOTHING
from wherryd.stores.s3.identity import Keys
from wherryd.stores.s3.signing import sign

GIVEN = "5a" * 32
URL = "http://host:9000/bucket/key"
KEYS = Keys("AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY")


class _Body(io.BytesIO):
    """Counts how often it is read."""

    reads = 0

    def read(self, size: int | None = -1, /) -> bytes:
        self.reads += 1
        return super().read(size)


def test_botocore_no_longer_hashes_anew() -> None:
    """The trap is there: botocore drops a hash that it is given, and reads the body for one of its own.

    If this fails, botocore has mended it, and ``payload()`` in ``signing`` may go.
    """
    body = _Body(b"many gigabytes")
    given = {"X-Amz-Content-SHA256": GIVEN}
    request = AWSRequest(method="PUT", url=URL, headers=given, data=body)
    credentials = ReadOnlyCredentials(KEYS.access_key, KEYS.secret_key, None)
    S3SigV4Auth(credentials, "s3", "r").add_auth(request)
    assert body.reads
    assert request.headers.get_all("X-Amz-Content-SHA256") != [GIVEN]


def _signed(sha256: str) -> dict[str, str]:
    return sign("PUT", URL, {}, sha256=sha256, keys=KEYS, region="r", now=1_800_000_000)


def test_a_body_is_hashed_twice() -> None:
    """The hash that is given is the one that is signed, and stands in the one header for it."""
    headers = _signed(GIVEN)
    hashes = [value for name, value in headers.items() if name.lower() == "x-amz-content-sha256"]
    assert hashes == [GIVEN]
    assert "x-amz-content-sha256" in headers["Authorization"]
    assert headers["Authorization"] != _signed("5b" * 32)["Authorization"]


def test_a_signature_is_not_amazons() -> None:
    """GET Object in Amazon S3 API Reference, "Transferring Payload in a Single Chunk", comes out alike."""
    headers = sign(
        "GET",
        "https://examplebucket.s3.amazonaws.com/test.txt",
        {"Range": "bytes=0-9"},
        sha256=NOTHING.hex(),
        keys=KEYS,
        region="us-east-1",
        now=1_369_353_600,
    )
    signature = "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41"
    assert headers["Authorization"].endswith(f"Signature={signature}")
