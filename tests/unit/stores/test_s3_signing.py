"""Signatures with a hash that was made before."""

from __future__ import annotations

from datetime import UTC, datetime
from string import ascii_letters, digits

import pytest
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import ReadOnlyCredentials
from hypothesis import given
from hypothesis import strategies as st

from wherryd.stores.s3.answers import NOTHING
from wherryd.stores.s3.identity import UNSIGNED, Keys
from wherryd.stores.s3.signing import sign

GIVEN = "5a" * 32
URL = "http://host:9000/bucket/key"
KEYS = Keys("AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY")
NOW = 1_800_000_000

_WORDS = st.text(ascii_letters + digits + "%-._~", min_size=1, max_size=8)
_NAMES = st.sampled_from(["If-None-Match", "Range", "x-amz-checksum-sha256", "x-amz-meta-A", "Via"])
_VALUES = st.text(ascii_letters + ' *"=,:/', max_size=12)


def _signed(sha256: str, keys: Keys = KEYS, now: float = NOW) -> dict[str, str]:
    return sign("PUT", URL, {}, sha256=sha256, keys=keys, region="r", now=now)


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


class _Botocores(S3SigV4Auth):
    """botocore's signer, given the time and the body's hash."""

    def payload(self, request: AWSRequest) -> str:
        return str(request.context["sha256"])

    def signed(self, request: AWSRequest) -> str:
        self._modify_request_before_signing(request)  # type: ignore[attr-defined]  # not in the stubs
        text = self.string_to_sign(request, self.canonical_request(request))
        self._inject_signature_to_request(request, self.signature(text, request))  # type: ignore[attr-defined]
        return str(request.headers["Authorization"])


@given(
    method=st.sampled_from(["GET", "PUT", "POST", "DELETE", "HEAD"]),
    path=st.lists(_WORDS, max_size=3).map("/".join),
    query=st.lists(st.tuples(_WORDS, st.one_of(st.just(""), _WORDS)), max_size=4),
    headers=st.dictionaries(_NAMES, _VALUES, max_size=4),
    token=st.one_of(st.none(), _WORDS),
    region=_WORDS,
    now=st.integers(1_000_000_000, 2_000_000_000),
)
def test_a_signature_is_not_botocores(
    method: str,
    path: str,
    query: list[tuple[str, str]],
    headers: dict[str, str],
    token: str | None,
    region: str,
    now: int,
) -> None:
    """Whatever is asked, by whom and when, is signed as botocore signs it."""
    pairs = "&".join(f"{name}={value}" for name, value in query)
    url = f"https://host:9000/{path}{pairs and '?' + pairs}"
    keys = Keys(KEYS.access_key, KEYS.secret_key, token)
    request = AWSRequest(method=method, url=url, headers={"Host": "host:9000", **headers})
    request.context["timestamp"] = f"{datetime.fromtimestamp(now, UTC):%Y%m%dT%H%M%SZ}"
    request.context["sha256"] = GIVEN
    theirs = _Botocores(ReadOnlyCredentials(*keys_of(keys)), "s3", region).signed(request)
    ours = sign(method, url, headers, sha256=GIVEN, keys=keys, region=region, now=now)
    assert ours["Authorization"] == theirs
    assert {name.lower(): value for name, value in ours.items()} == {
        name.lower(): value for name, value in request.headers.items()
    }


def keys_of(keys: Keys) -> tuple[str, str, str | None]:
    """Keys as botocore wants them."""
    return keys.access_key, keys.secret_key, keys.token


@pytest.mark.parametrize("after_s", [0, 86_400])
def test_a_kept_key_signs_for_another(after_s: int) -> None:
    """Neither another secret nor another day is signed with the key that was derived before."""
    before = _signed(GIVEN)["Authorization"]
    other = Keys(KEYS.access_key, "another" if not after_s else KEYS.secret_key)
    after = _signed(GIVEN, other, NOW + after_s)["Authorization"]
    assert after.rpartition("=")[2] != before.rpartition("=")[2]
    assert _signed(GIVEN)["Authorization"] == before


def test_an_open_bucket_gets_a_signature() -> None:
    """Without keys, the headers go as they are."""
    assert sign("GET", URL, {"A": "b"}, sha256=GIVEN, keys=UNSIGNED, region="r", now=NOW) == {
        "A": "b"
    }
