"""Checksums that a server gives of an object, beside the one that is its digest. No I/O.

Owns: which ones are taken, how a version has them: ``<algorithm>:<value>``. Does not own: the digest, by
which references are compared (``s3``, ``gs``), checking bytes against them (the client).

Servers write all of them in base64. Here MD5 and the SHAs are in hexadecimal, as ``sha256sum`` and a
version's digests have them; the CRCs and XXHashes stay as they are. Sources: Amazon S3 User Guide, "Checking
object integrity"; Cloud Storage JSON API, "Objects".
"""

from __future__ import annotations

import binascii
from base64 import b64decode
from collections.abc import Mapping

#: Bytes that each takes. In the order in which a version has them.
_BYTES = {
    "crc32": 4,
    "crc32c": 4,
    "crc64nvme": 8,
    "md5": 16,
    "sha1": 20,
    "sha256": 32,
    "sha512": 64,
    "xxhash128": 16,
    "xxhash3": 8,
    "xxhash64": 8,
}
_IN_HEX = ("md5", "sha1", "sha256", "sha512")
_PREFIX = "x-amz-checksum-"


def sums_of(headers: Mapping[str, str]) -> tuple[str, ...]:
    """What an S3 server's answer about an object tells of all its bytes, in order.

    The checksum of an upload in parts may be made of the parts' checksums (``COMPOSITE``, ``…-2``): it says
    nothing about bytes whose parts nobody knows, and is left out.
    """
    if headers.get(f"{_PREFIX}type", "FULL_OBJECT") != "FULL_OBJECT":
        return ()
    told = (sum_of(algorithm, headers.get(_PREFIX + algorithm, "")) for algorithm in _BYTES)
    return tuple(each for each in told if each)


def sum_of(algorithm: str, value: str) -> str | None:
    """One checksum that a server wrote in base64; None for what is none of that algorithm."""
    try:
        plain = b64decode(value, validate=True)
    except (binascii.Error, ValueError):
        return None
    if len(plain) != _BYTES[algorithm]:
        return None
    return f"{algorithm}:{plain.hex() if algorithm in _IN_HEX else value}"
