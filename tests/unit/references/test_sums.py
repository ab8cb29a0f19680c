"""Which checksums of an object are recorded, and how."""

from __future__ import annotations

import hashlib
from base64 import b64encode

import pytest

from wherryd.references.sums import sum_of, sums_of


def told(algorithm: str, value: bytes, **more: str) -> dict[str, str]:
    """Headers of an S3 server's answer."""
    names = {name.replace("_", "-"): text for name, text in more.items()}
    return {f"x-amz-checksum-{algorithm}": b64encode(value).decode(), **names}


def test_hash_is_in_base64() -> None:
    """MD5 and the SHAs are in hexadecimal, others as they came; in the order of their names."""
    sha256 = hashlib.sha256(b"x")
    headers = {
        **told("sha256", sha256.digest()),
        **told("md5", bytes(16)),
        **told("crc64nvme", b"\xff" * 8),
        **told("crc32c", b"\1\2\3\4"),
        **told("xxhash3", bytes(8)),
    }
    assert sums_of(headers) == (
        "crc32c:AQIDBA==",
        "crc64nvme://////////8=",
        f"md5:{'00' * 16}",
        f"sha256:{sha256.hexdigest()}",
        "xxhash3:AAAAAAAAAAA=",
    )


def test_checksum_of_parts_is_the_objects() -> None:
    """What is made of the parts' checksums is left out, by its type or by its end."""
    crc = b"\1\2\3\4"
    assert sums_of(told("crc32", crc, x_amz_checksum_type="FULL_OBJECT")) == ("crc32:AQIDBA==",)
    assert sums_of(told("crc32", crc, x_amz_checksum_type="COMPOSITE")) == ()
    assert sums_of({"x-amz-checksum-crc32": "AQIDBA==-2"}) == ()


@pytest.mark.parametrize("value", ["", "AQID", "AQIDBAU=", "AQIDBA", "é", "AQID BA==", "\n"])
def test_nonsense_is_recorded(value: str) -> None:
    """What is not base64, or has another length than the algorithm's, is no checksum."""
    assert sum_of("crc32", value) is None
    assert sums_of({"x-amz-checksum-crc32": value, "x-amz-checksum-mode": "ENABLED"}) == ()


def test_sums_are_out_of_order() -> None:
    """All that a server may tell comes in the order that a manifest asks for, one of each."""
    sizes = {"crc32": 4, "crc32c": 4, "crc64nvme": 8, "md5": 16, "sha1": 20, "sha256": 32}
    sizes |= {"sha512": 64, "xxhash128": 16, "xxhash3": 8, "xxhash64": 8}
    headers = {
        name: text for each in sizes for name, text in told(each, bytes(sizes[each])).items()
    }
    names = [each.partition(":")[0] for each in sums_of(headers)]
    assert names == sorted(sizes)
