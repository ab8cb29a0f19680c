"""What is sent again because it was refused: with other keys, the server's clock, the bucket's region."""

from __future__ import annotations

import logging
import re
from email.utils import formatdate
from pathlib import Path

import pytest

from tests.support.http import Line, Seen, answer, error, scripted
from tests.unit.stores.helpers import TestClock, store_at
from wherry.errors import AccessRefused
from wherryd.stores.base import ObjectMissing
from wherryd.stores.credentials import OWN, CredentialSet, CredentialSets, StoreCredentials
from wherryd.stores.s3.store import S3Store


def _keys(name: str) -> dict[str, str]:
    return {"AWS_ACCESS_KEY_ID": name, "AWS_SECRET_ACCESS_KEY": f"secret of {name}"}


def _signer(seen: Seen) -> str:
    found = re.search("Credential=([^/]+)/", seen.headers["authorization"])
    assert found
    return found[1]


def _only(*good: str) -> Line:
    """A server that knows these access keys."""

    def said(seen: Seen) -> bytes:
        known = _signer(seen) in good
        return answer(200, ETag='"e"') if known else error(403, "InvalidAccessKeyId")

    return said


# ── whose keys ───────────────────────────────────────────────────────────────────────────────────


def test_sets_are_tried_in_another_order() -> None:
    """First the set that worked last, then the newest, then the daemon's own."""
    sets = CredentialSets()
    source = sets.source("s3://bucket")
    assert source.in_order() == [OWN]
    assert sets.hand_over("s3://bucket", _keys("A"))
    assert not sets.hand_over("s3://bucket", _keys("A"))
    assert not sets.hand_over("s3://bucket", {})
    source.note_worked(CredentialSet(_keys("A")))
    sets.hand_over("s3://bucket", _keys("B"))
    sets.hand_over("s3://bucket", _keys("C"))
    assert source.in_order() == [CredentialSet(_keys("A")), CredentialSet(_keys("C")), OWN]
    source.note_worked(OWN)
    assert source.in_order() == [OWN, CredentialSet(_keys("C"))]
    assert sets.source("s3://other").in_order() == [OWN]


async def test_a_good_set_is_not_tried() -> None:
    """A refused set gives way to the next; the one that worked is tried first from then on."""
    credentials = StoreCredentials()
    async with scripted() as server:
        server.otherwise = _only("OLD")
        store = S3Store(f"s3://bucket?endpoint_url={server.url}", credentials, TestClock())
        credentials.hand_over(_keys("OLD"))
        await store.put("a", b"x")
        credentials.hand_over(_keys("NEW"))
        await store.put("b", b"x")
        server.otherwise = _only("NEW")
        await store.put_if_absent("c", b"x")
        await store.put_if_absent("d", b"x")
        await store.aclose()
    assert [_signer(seen) for seen in server.seen] == ["OLD", "OLD", "OLD", "NEW", "NEW"]


async def test_the_daemons_own_keys_are_not_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no client's set is taken, the daemon's own environment is asked."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "OWN")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "own secret")
    monkeypatch.setenv("AWS_SESSION_TOKEN", "own token")
    async with store_at(keys=_keys("BAD")) as (store, server):
        server.otherwise = _only("OWN")
        await store.put("a", b"x")
    assert [_signer(seen) for seen in server.seen] == ["BAD", "OWN"]
    assert server.seen[1].headers["x-amz-security-token"] == "own token"


async def test_a_refusal_tells_a_secret(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The error names what was tried; no secret is in it, in a repr or in any log."""
    caplog.set_level(logging.DEBUG)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAOWNOWN")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hush-own")
    given = {
        **_keys("AKIAGIVEN"),
        "AWS_SECRET_ACCESS_KEY": "hush-given",
        "AWS_SESSION_TOKEN": "hush-token",
    }
    async with store_at(keys=given) as (store, server):
        server.otherwise = error(403, "AccessDenied")
        with pytest.raises(AccessRefused) as refused:
            await store.put("some/key", b"x")
    said = str(refused.value)
    assert "some/key" in said and "AccessDenied" in said
    assert "the key AKIA… of a client" in said and "the daemon's own" in said
    everything = said + repr(refused.value) + repr(CredentialSet(given)) + caplog.text
    assert "hush" not in everything


async def test_nobody_says_that_there_are_no_keys() -> None:
    """Without any credentials nothing is sent, and the error says what to do."""
    async with store_at(keys={}) as (store, server):
        with pytest.raises(AccessRefused, match="AWS_ACCESS_KEY_ID"):
            await store.get("key")
    assert not server.seen


@pytest.mark.parametrize(
    ("status", "code"),
    [(403, "ExpiredToken"), (400, "ExpiredToken"), (400, "InvalidToken"), (401, "Unauthorized")],
)
async def test_keys_that_ran_out_are_used_for_ever(status: int, code: str, tmp_path: Path) -> None:
    """Refused keys from a file are read again, since new ones may be there."""
    file = tmp_path / "credentials"
    _write_profile(file, "OLD")
    given = {"AWS_PROFILE": "cats", "AWS_SHARED_CREDENTIALS_FILE": str(file)}
    clock = TestClock()
    async with store_at(keys=given, clock=clock) as (store, server):
        await store.put("a", b"x")
        _write_profile(file, "NEW")
        server.script = [error(status, code)]
        clock.time += 60
        await store.put("b", b"x")
        await store.put("c", b"x")
    assert [_signer(seen) for seen in server.seen] == ["OLD", "OLD", "NEW", "NEW"]


async def test_an_expired_token_passes_for_a_bad_request() -> None:
    """An answer to HEAD has no code: 400 is taken for refused keys."""
    async with store_at(answer(400)) as (store, _):
        with pytest.raises(AccessRefused):
            await store.head("key")


async def test_a_refused_set_asks_files_at_each_request(tmp_path: Path) -> None:
    """Files are not read again and again while nothing changes."""
    file = tmp_path / "credentials"
    _write_profile(file, "OLD")
    given = {"AWS_PROFILE": "cats", "AWS_SHARED_CREDENTIALS_FILE": str(file)}
    async with store_at(keys=given) as (store, server):
        server.otherwise = error(403, "AccessDenied")
        for _ in range(3):
            with pytest.raises(AccessRefused):
                await store.get("key")
            _write_profile(file, "NEW")
    assert [_signer(seen) for seen in server.seen] == ["OLD", "OLD", "OLD"]


async def test_a_containers_keys_are_not_asked_for() -> None:
    """A client in a container hands over where its keys are to be had."""
    body = b"""{"AccessKeyId": "TASK", "SecretAccessKey": "s", "Token": "t",
                "Expiration": "2099-01-01T00:00:00Z"}"""
    async with scripted() as metadata:
        metadata.otherwise = answer(200, body)
        given = {
            "AWS_CONTAINER_CREDENTIALS_FULL_URI": f"{metadata.url}/keys",
            "AWS_CONTAINER_AUTHORIZATION_TOKEN": "let me",
        }
        async with store_at(keys=given) as (store, server):
            await store.put("a", b"x")
            await store.put("b", b"x")
    assert [_signer(seen) for seen in server.seen] == ["TASK", "TASK"]
    assert [seen.headers["authorization"] for seen in metadata.seen] == ["let me"]


async def test_a_role_is_not_assumed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A client with a web identity hands over its role, which the daemon assumes."""
    (tmp_path / "token").write_text("pod-token")
    body = b"""<AssumeRoleWithWebIdentityResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/">
      <AssumeRoleWithWebIdentityResult><Credentials><AccessKeyId>ROLE</AccessKeyId>
      <SecretAccessKey>s</SecretAccessKey><SessionToken>t</SessionToken>
      <Expiration>2099-01-01T00:00:00Z</Expiration></Credentials></AssumeRoleWithWebIdentityResult>
      </AssumeRoleWithWebIdentityResponse>"""
    async with scripted() as sts:
        sts.otherwise = answer(200, body)
        monkeypatch.setenv("AWS_ENDPOINT_URL_STS", sts.url)
        given = {
            "AWS_ROLE_ARN": "arn:aws:iam::123456789012:role/cats",
            "AWS_WEB_IDENTITY_TOKEN_FILE": str(tmp_path / "token"),
        }
        async with store_at(keys=given) as (store, server):
            await store.put("a", b"x")
    assert [_signer(seen) for seen in server.seen] == ["ROLE"]
    assert b"WebIdentityToken=pod-token" in sts.seen[0].body


def _write_profile(file: Path, name: str) -> None:
    keys = f"aws_access_key_id = {name}\naws_secret_access_key = secret"
    file.write_text(f"[default]\naws_access_key_id = DEFAULT\n[cats]\n{keys}\n")


# ── at what time ─────────────────────────────────────────────────────────────────────────────────


def _date(seen: Seen) -> str:
    return seen.headers["x-amz-date"]


@pytest.mark.parametrize("method", ["PUT", "HEAD"])
async def test_a_wrong_clock_refuses_everything(method: str) -> None:
    """A refusal for the time is met once by the server's; later requests have it at once."""
    clock = TestClock(now=1_800_000_000)
    server_time = formatdate(clock.time + 86_400)
    refusal = answer(403, Date=server_time)
    if method == "PUT":
        refusal = error(403, "RequestTimeTooSkewed", Date=server_time)
    async with store_at(refusal, clock=clock) as (store, server):
        await (store.put("key", b"x") if method == "PUT" else store.head("key"))
        await store.put("other", b"x")
    assert [_date(seen) for seen in server.seen] == [
        "20270115T080000Z",
        "20270116T080000Z",
        "20270116T080000Z",
    ]


async def test_the_clock_is_corrected_for_ever() -> None:
    """If the corrected time is refused as well, that is the answer."""
    clock = TestClock(now=1_800_000_000)
    async with store_at(clock=clock) as (store, server):
        server.otherwise = error(403, "RequestTimeTooSkewed", Date=formatdate(clock.time + 86_400))
        with pytest.raises(AccessRefused):
            await store.put_if_absent("key", b"x")
    assert len(server.seen) == 2


# ── in which region ──────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "refusal",
    [
        error(400, "AuthorizationHeaderMalformed", "<Region>eu-central-1</Region>"),
        error(301, "PermanentRedirect", x_amz_bucket_region="eu-central-1"),
        answer(301, x_amz_bucket_region="eu-central-1"),
        answer(400, x_amz_bucket_region="eu-central-1"),
    ],
)
async def test_a_bucket_in_another_region_is_not_found(refusal: bytes) -> None:
    """The server names the bucket's region, and it is signed for from then on."""
    async with store_at(refusal) as (store, server):
        await store.put_if_absent("key", b"x")
        await store.put("other", b"x")
    scopes = [seen.headers["authorization"].split("/")[2] for seen in server.seen]
    assert scopes == ["us-east-1", "eu-central-1", "eu-central-1"]


async def test_good_answers_move_the_bucket() -> None:
    """Servers name the region in every answer; that is no redirect."""
    missing = error(404, "NoSuchKey", x_amz_bucket_region="eu-central-1")
    there = answer(200, ETag='"e"', x_amz_bucket_region="eu-central-1")
    async with store_at(there, missing) as (store, server):
        await store.put("key", b"x")
        with pytest.raises(ObjectMissing):
            await store.get("key")
    assert len(server.seen) == 2
