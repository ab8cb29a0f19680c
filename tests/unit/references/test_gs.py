"""What Google refuses, whose tokens are tried, and what comes instead of an answer."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import parse_qs

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from tests.support.http import Line, Scripted, answer, scripted
from tests.unit.stores.helpers import TestClock
from wherry.errors import ReferenceFailed, ReferenceUnavailable
from wherryd.references.base import Target
from wherryd.references.gs import GsResolver
from wherryd.references.session import Session
from wherryd.stores.credentials import CredentialSet, CredentialSets
from wherryd.stores.gs import identity as gs_identity
from wherryd.stores.gs import place
from wherryd.stores.gs.identity import GoogleIdentity

TARGET = Target("gs://bucket/k", "gs://bucket")
GOOD = answer(
    200, json.dumps({"name": "k", "size": "1", "generation": "7", "crc32c": "c"}).encode()
)


def refused(status: int, message: str = "no", **headers: str) -> bytes:
    body = json.dumps({"error": {"code": status, "message": message}})
    return answer(status, body.encode(), **headers)


def often(reason: str) -> bytes:
    told = {"code": 403, "message": "slower", "errors": [{"reason": reason}]}
    return answer(403, json.dumps({"error": told}).encode(), Retry_After="7")


@pytest.fixture(autouse=True)
def _nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """No token comes from this machine, and no test asks Google."""
    monkeypatch.setattr(place, "GOOGLE", "http://127.0.0.1:9")
    monkeypatch.setattr(gs_identity, "_METADATA_S", 0)


@asynccontextmanager
async def asked(
    monkeypatch: pytest.MonkeyPatch,
    tokens: Mapping[str, str | None] | None,
    *script: Line,
    **more: str,
) -> AsyncIterator[tuple[GsResolver, Scripted]]:
    """A resolver that was handed "a.json", which leads to ``tokens["a.json"]``; "" is the daemon's own.

    Without ``tokens`` they come from where they do.
    """

    async def token(self: GoogleIdentity) -> str | None:
        values = self.credentials.values or {}
        return tokens.get(values.get("GOOGLE_APPLICATION_CREDENTIALS", ""))

    if tokens is not None:
        monkeypatch.setattr(GoogleIdentity, "token", token)
    async with scripted(*script) as server:
        monkeypatch.setattr(place, "GOOGLE", server.url)
        sets = CredentialSets()
        sets.hand_over(TARGET.server, {"GOOGLE_APPLICATION_CREDENTIALS": "a.json", **more})
        resolver = GsResolver(TestClock(), sets, Session())
        try:
            yield resolver, server
        finally:
            await resolver.aclose()


def shown(server: Scripted) -> list[str | None]:
    """The tokens that were shown."""
    return [seen.headers.get("authorization") for seen in server.seen]


async def test_sets_are_tried_in_another_order(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the client handed over, then the daemon's own, then nothing; what worked comes first next."""
    tokens = {"a.json": "A", "": "own"}
    script = (refused(401), refused(403), GOOD, GOOD)
    async with asked(monkeypatch, tokens, *script) as (resolver, server):
        assert await resolver.look(TARGET)
        assert await resolver.look(TARGET)
        assert shown(server) == ["Bearer A", "Bearer own", None, None]


async def test_composite_object_has_an_md5(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the server gives no MD5, none is recorded; it is asked for by name."""
    async with asked(monkeypatch, {}, GOOD) as (resolver, server):
        found = await resolver.look(TARGET)
        assert found
        assert (found.digest, found.sums) == ("crc32c:c", ())
        (fields,) = parse_qs(server.seen[0].target.partition("?")[2])["fields"]
        assert "md5Hash" in fields.split(",")


@pytest.mark.parametrize(
    ("tokens", "script", "kind", "said"),
    [
        ({"a.json": "A"}, (refused(403, "no access"), refused(401)), ReferenceFailed, "no access"),
        ({"a.json": "A"}, (refused(401), refused(401)), ReferenceUnavailable, "refuses the cred"),
        ({}, (refused(401),), ReferenceUnavailable, "wants credentials, and there are none"),
        ({}, (refused(503, Retry_After="7"),), ReferenceUnavailable, "answers 503"),
        ({}, (refused(429),), ReferenceUnavailable, "answers 429"),
        ({"a.json": "A"}, (often("rateLimitExceeded"),), ReferenceUnavailable, "403 .*: slower"),
        ({}, (often("userRateLimitExceeded"),), ReferenceUnavailable, "403 .*: slower"),
        ({}, (refused(400, "bad name"),), ReferenceFailed, "bad name"),
        ({}, (answer(400, b"<html>"),), ReferenceUnavailable, "is no Google Cloud Storage"),
        ({}, (answer(200, b"<html>"),), ReferenceUnavailable, "is no Google Cloud Storage"),
        ({}, (None, None), ReferenceUnavailable, "gives no answer"),
    ],
    ids=[
        "denied",
        "bad",
        "none",
        "503",
        "429",
        "403",
        "403-none",
        "400",
        "html-400",
        "html-200",
        "closed",
    ],
)
async def test_refusal_means_something_else(
    monkeypatch: pytest.MonkeyPatch,
    tokens: dict[str, str | None],
    script: tuple[Line, ...],
    kind: type[ReferenceFailed | ReferenceUnavailable],
    said: str,
) -> None:
    """Good credentials that are refused, and bad questions, are final; the rest may pass."""
    async with asked(monkeypatch, tokens, *script) as (resolver, server):
        with pytest.raises(kind, match=said) as caught:
            await resolver.look(TARGET)
    if isinstance(caught.value, ReferenceUnavailable):
        assert caught.value.host == "gs://bucket"
    if "slower" in said:
        assert caught.value.retry_after_s == 7
        assert len(server.seen) == 1


async def test_old_token_ends_a_listing(monkeypatch: pytest.MonkeyPatch) -> None:
    """A page's token that Google has forgotten is replaced by the last name, which is not given again."""

    def page(*names: str, token: str = "") -> bytes:
        items = [{"name": name, "size": "1", "generation": "1", "crc32c": "c"} for name in names]
        return answer(200, json.dumps({"items": items, "nextPageToken": token}).encode())

    target = Target("gs://bucket/p", "gs://bucket")
    script = (page("p/a", "p/b", token="t"), refused(400), page("p/b", "p/c"))
    async with asked(monkeypatch, {}, *script) as (resolver, server):
        first = await resolver.list(target, "")
        assert first.after
        rest = await resolver.list(target, first.after)
        assert [each.path for each in (*first.objects, *rest.objects)] == ["a", "b", "c"]
        assert "pageToken=t" in server.seen[1].target
        assert "startOffset=p%2Fb" in server.seen[2].target


async def test_missing_bucket_is_what_a_proxy_says(monkeypatch: pytest.MonkeyPatch) -> None:
    """A 404 of something that is not Google is no word on the bucket."""
    async with asked(monkeypatch, {}, answer(404, b"<html>")) as (resolver, _):
        with pytest.raises(ReferenceUnavailable):
            await resolver.list(TARGET, "")


async def test_nobody_pays(monkeypatch: pytest.MonkeyPatch) -> None:
    """The project that is to pay goes with the credentials it came with, and with no others."""
    script = (refused(403), refused(403), GOOD)
    monkeypatch.setenv("GS_USER_PROJECT", "own-project")
    tokens = {"a.json": "A", "": "own"}
    async with asked(monkeypatch, tokens, *script, GS_USER_PROJECT="p:1") as (resolver, server):
        assert await resolver.look(TARGET)
        queries = [seen.target.partition("?")[2].split("&") for seen in server.seen]
    assert "userProject=p%3A1" in queries[0]
    assert "userProject=own-project" in queries[1]
    assert not any("userProject" in each for each in queries[2])


async def test_payer_is_not_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the requester pays, and nobody does, it is said how."""
    no = refused(400, "Bucket is a requester pays bucket but no user project provided.")
    async with asked(monkeypatch, {"a.json": "A"}, no) as (resolver, _):
        with pytest.raises(ReferenceFailed, match="GS_USER_PROJECT"):
            await resolver.look(TARGET)


# ── tokens ───────────────────────────────────────────────────────────────────────────────────────
def _key_file(path: Path, token_uri: str) -> CredentialSet:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    told = {"type": "service_account", "client_email": "x@y", "private_key": pem}
    path.write_text(json.dumps({**told, "token_uri": token_uri}))
    return CredentialSet({"GOOGLE_APPLICATION_CREDENTIALS": str(path)})


async def test_token_is_asked_for_each_time(tmp_path: Path) -> None:
    """A key file leads to a token, which is kept."""
    said = answer(
        200, b'{"access_token": "T", "expires_in": 3600}', Content_Type="application/json"
    )
    async with scripted(said) as server:
        identity = GoogleIdentity(_key_file(tmp_path / "key.json", server.url), TestClock())
        assert [await identity.token(), await identity.token()] == ["T", "T"]
        assert len(server.seen) == 1
        assert b"devstorage" not in server.seen[0].body  # it is inside of what is signed
        await identity.aclose()


async def test_key_file_leads_nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A program's key file leads, by Google's own flow, to a token that opens the bucket and no more."""
    token = b'{"access_token": "T", "expires_in": 3600}'
    async with scripted(answer(200, token, Content_Type="application/json")) as tokens:
        values = _key_file(tmp_path / "key.json", f"{tokens.url}/token").values
        async with asked(monkeypatch, None, GOOD, GOOD, **(values or {})) as (resolver, server):
            assert await resolver.look(TARGET)
            assert await resolver.look(TARGET)
            assert shown(server) == ["Bearer T", "Bearer T"]
        (exchange,) = tokens.seen
        assert (exchange.method, exchange.target) == ("POST", "/token")
        form = parse_qs(exchange.body.decode())
        assert form["grant_type"] == ["urn:ietf:params:oauth:grant-type:jwt-bearer"]
        told = _signed_by(tmp_path / "key.json", form["assertion"][0])
        assert told["iss"] == "x@y"
        assert told["scope"] == "https://www.googleapis.com/auth/devstorage.read_only"
        assert told["aud"] == f"{tokens.url}/token"


def _signed_by(path: Path, assertion: str) -> dict[str, str]:
    """What an assertion says, when the key file's key has signed it."""
    signed, _, signature = assertion.rpartition(".")
    key = load_pem_private_key(json.loads(path.read_text())["private_key"].encode(), None)
    assert isinstance(key, rsa.RSAPrivateKey)
    key.public_key().verify(_decoded(signature), signed.encode(), PKCS1v15(), SHA256())
    told: dict[str, str] = json.loads(_decoded(signed.partition(".")[2]))
    return told


def _decoded(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


@pytest.mark.parametrize("written", [None, "", "no json", '{"type": "what"}'])
async def test_bad_key_file_is_looked_at_each_time(tmp_path: Path, written: str | None) -> None:
    """A key file that leads nowhere gives no token, and is left alone for a while."""
    path, clock = tmp_path / "key.json", TestClock()
    if written is not None:
        path.write_text(written)
    identity = GoogleIdentity(CredentialSet({"GOOGLE_APPLICATION_CREDENTIALS": str(path)}), clock)
    assert await identity.token() is None
    async with scripted(
        answer(200, b'{"access_token": "T", "expires_in": 3600}', Content_Type="application/json")
    ) as server:
        _key_file(path, server.url)
        assert await identity.token() is None
        clock.time += 6
        assert await identity.token() == "T"
    await identity.aclose()


async def test_gcloud_folder_is_not_looked_at(tmp_path: Path) -> None:
    """A client's CLOUDSDK_CONFIG leads to its login, GOOGLE_APPLICATION_CREDENTIALS comes first."""
    folder = CredentialSet({"CLOUDSDK_CONFIG": str(tmp_path)})
    assert gs_identity._file_of(folder) == f"{tmp_path}/application_default_credentials.json"
    both = CredentialSet({"CLOUDSDK_CONFIG": "/a", "GOOGLE_APPLICATION_CREDENTIALS": "/b"})
    assert gs_identity._file_of(both) == "/b"
    assert gs_identity._file_of(CredentialSet(None)) is None
