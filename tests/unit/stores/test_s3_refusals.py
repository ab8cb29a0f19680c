"""What is sent again because it was refused: with newer keys, the server's clock, the bucket's region."""

from __future__ import annotations

import logging
from email.utils import formatdate
from pathlib import Path

import anyio
import pytest
from structlog.testing import capture_logs

from tests.support.http import Seen, answer, error, scripted
from tests.unit.stores.helpers import (
    TestClock,
    keys_of,
    signer,
    store_at,
    write_profile,
)
from wherry.errors import AccessRefused
from wherryd.stores.base import ObjectMissing
from wherryd.stores.credentials import CredentialSet

# ── whose keys ───────────────────────────────────────────────────────────────────────────────────


async def test_a_refusal_tells_a_secret(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The error names what was tried; no secret is in it, in a repr or in any log."""
    caplog.set_level(logging.DEBUG)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAOWNOWN")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hush-own")
    given = {
        **keys_of("AKIAGIVEN"),
        "AWS_SECRET_ACCESS_KEY": "hush-given",
        "AWS_SESSION_TOKEN": "hush-token",
    }
    async with store_at(keys=given) as (store, server):
        server.otherwise = error(403, "AccessDenied")
        with pytest.raises(AccessRefused) as refused:
            await store.put("some/key", b"x")
    said = str(refused.value)
    assert "some/key" in said and "403 AccessDenied said so;" in said
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
    write_profile(file, "OLD")
    given = {"AWS_PROFILE": "cats", "AWS_SHARED_CREDENTIALS_FILE": str(file)}
    clock = TestClock()
    async with store_at(keys=given, clock=clock) as (store, server):
        await store.put("a", b"x")
        write_profile(file, "NEW")
        server.script = [error(status, code)]
        clock.time += 60
        await store.put("b", b"x")
        await store.put("c", b"x")
    assert [signer(seen) for seen in server.seen] == ["OLD", "OLD", "NEW", "NEW"]


async def test_an_expired_token_passes_for_a_bad_request() -> None:
    """An answer to HEAD has no code: 400 is taken for refused keys."""
    async with store_at(answer(400)) as (store, _):
        with pytest.raises(AccessRefused):
            await store.head("key")


async def test_a_refused_set_asks_files_at_each_request(tmp_path: Path) -> None:
    """Files are not read again and again while nothing changes."""
    file = tmp_path / "credentials"
    write_profile(file, "OLD")
    given = {"AWS_PROFILE": "cats", "AWS_SHARED_CREDENTIALS_FILE": str(file)}
    async with store_at(keys=given) as (store, server):
        server.otherwise = error(403, "AccessDenied")
        for _ in range(3):
            with pytest.raises(AccessRefused):
                await store.get("key")
            write_profile(file, "NEW")
    assert [signer(seen) for seen in server.seen] == ["OLD", "OLD", "OLD"]


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
    assert [signer(seen) for seen in server.seen] == ["TASK", "TASK"]
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
    assert [signer(seen) for seen in server.seen] == ["ROLE"]
    assert b"WebIdentityToken=pod-token" in sts.seen[0].body


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


async def test_the_clock_is_corrected_for_one_only() -> None:
    """Of requests that are refused together for the time each is sent again, and the log says it once."""
    clock = TestClock(now=1_800_000_000)
    refusal = error(403, "RequestTimeTooSkewed", Date=formatdate(clock.time + 86_400))
    both = anyio.Event()

    async def together(seen: Seen) -> bytes:
        if len(server.seen) == 2:
            both.set()
        await both.wait()
        return refusal

    async with store_at(together, together, clock=clock) as (store, server):
        with capture_logs() as said:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(store.put, "a", b"x")
                tasks.start_soon(store.put, "b", b"x")
        assert len(server.seen) == 4
    (line,) = said
    assert line["event"] == "the server's clock is signed with"
    assert line["ahead_s"] == 86_400 and "s3://bucket" in line["store"]


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
        error(307, "TemporaryRedirect", x_amz_bucket_region="eu-central-1"),
        error(307, "TemporaryRedirect", "<Region>eu-central-1</Region>"),
        answer(400, x_amz_bucket_region="eu-central-1"),
    ],
)
async def test_a_bucket_in_another_region_is_not_found(refusal: bytes) -> None:
    """The server names the bucket's region, and it is signed for from then on; the log says so once."""
    async with store_at(refusal) as (store, server):
        with capture_logs() as said:
            await store.put_if_absent("key", b"x")
            await store.put("other", b"x")
    assert [(line["bucket"], line["region"]) for line in said] == [("bucket", "eu-central-1")]
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
