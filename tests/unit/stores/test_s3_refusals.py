"""What is sent again because it was refused: with other keys, the server's clock, the bucket's region."""

from __future__ import annotations

import logging
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from email.utils import formatdate
from pathlib import Path

import pytest

from tests.support.http import Line, Scripted, Seen, answer, error, scripted
from tests.unit.stores.helpers import TestClock, store_at
from wherry.errors import AccessRefused, StoreError
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


@asynccontextmanager
async def _store(credentials: StoreCredentials) -> AsyncIterator[tuple[S3Store, Scripted]]:
    """A store whose sets the test hands over itself."""
    async with scripted() as server:
        store = S3Store(f"s3://bucket?endpoint_url={server.url}", credentials, TestClock())
        try:
            yield store, server
        finally:
            await store.aclose()


# ── whose keys ───────────────────────────────────────────────────────────────────────────────────


def _names(source: StoreCredentials) -> list[str]:
    return [(each.values or {}).get("AWS_ACCESS_KEY_ID", "own") for each in source.in_order()]


def test_sets_are_tried_in_another_order() -> None:
    """First the set that worked last, then the newest ones, then the daemon's own."""
    sets = CredentialSets()
    source = sets.source("s3://bucket")
    assert source.in_order() == [OWN]
    assert sets.hand_over("s3://bucket", _keys("A"))
    assert not sets.hand_over("s3://bucket", _keys("A"))
    assert not sets.hand_over("s3://bucket", {})
    source.note_worked(source.in_order()[0])
    sets.hand_over("s3://bucket", _keys("B"))
    sets.hand_over("s3://bucket", _keys("C"))
    assert _names(source) == ["A", "C", "B", "own"]
    source.note_worked(OWN)
    assert _names(source) == ["own", "C", "B", "A"]
    assert not sets.hand_over("s3://bucket", _keys("B"))
    assert _names(source) == ["own", "B", "C", "A"]
    assert sets.source("s3://other").in_order() == [OWN]


def test_sets_are_kept_without_end() -> None:
    """The last four are kept, and the one that worked last."""
    source = StoreCredentials()
    for name in "ABCDEF":
        source.hand_over(_keys(name))
        if name == "A":
            source.note_worked(source.in_order()[0])
    assert _names(source) == ["A", "F", "E", "D", "C", "own"]
    assert source.hand_over(_keys("B"))


def test_a_mended_set_is_no_news() -> None:
    """A set that was refused is news when it comes again, and is not what was refused."""
    source = StoreCredentials()
    source.hand_over(_keys("A"))
    (refused, _) = source.in_order()
    source.note_worked(refused)
    source.hand_over(_keys("A"))
    assert source.in_order()[0] is refused
    source.note_refused(refused)
    assert source.hand_over(_keys("A"))
    assert source.in_order()[0] == refused
    assert source.in_order()[0] is not refused
    assert not source.hand_over(_keys("A"))


async def test_a_mended_file_is_not_read(tmp_path: Path) -> None:
    """The file of a set that was refused is read at once when the set is handed over again."""
    file = tmp_path / "credentials"
    _write_profile(file, "OLD")
    given = {"AWS_PROFILE": "cats", "AWS_SHARED_CREDENTIALS_FILE": str(file)}
    credentials = StoreCredentials()
    credentials.hand_over(given)
    async with _store(credentials) as (store, server):
        server.otherwise = _only("NEW")
        with pytest.raises(AccessRefused):
            await store.put("a", b"x")
        _write_profile(file, "NEW")
        assert credentials.hand_over(given)
        await store.put("a", b"x")
    assert [_signer(seen) for seen in server.seen] == ["OLD", "NEW"]


async def test_two_projects_with_two_keys_shut_each_other_out() -> None:
    """Where each set has rights of its own, all calls get through, whoever came last."""
    credentials = StoreCredentials()
    rights = {"A": "/bucket/p1/", "B": "/bucket/p2/", "C": "/bucket/p3/"}
    async with _store(credentials) as (store, server):
        server.otherwise = lambda seen: (
            answer(200, ETag='"e"')
            if seen.target.startswith(rights[_signer(seen)])
            else error(403, "AccessDenied")
        )
        for name in rights:
            credentials.hand_over(_keys(name))
        for project in ("p1", "p2", "p3", "p1"):
            await store.put(f"{project}/key", b"x")


@pytest.mark.parametrize(
    "said",
    [
        error(503, "SlowDown"),
        error(500, "InternalError"),
        error(400, "InvalidRequest"),
        error(404, "NoSuchBucket"),
        answer(404, b"404 page not found"),
        answer(409, b"<html>"),
        answer(301),
    ],
)
async def test_an_error_of_another_kind_passes_for_a_good_signature(said: bytes) -> None:
    """Only an answer for which the store must have found the signature good makes a set the first."""
    credentials = StoreCredentials()
    async with _store(credentials) as (store, server):
        credentials.hand_over(_keys("GOOD"))
        await store.put("a", b"x")
        credentials.hand_over(_keys("WRONG"))
        server.script = [error(403, "AccessDenied"), said]
        with pytest.raises(StoreError):
            await store.put("b", b"x")
        await store.put("c", b"x")
    assert [_signer(seen) for seen in server.seen] == ["GOOD", "GOOD", "WRONG", "GOOD"]


@pytest.mark.parametrize(
    "said", [error(404, "NoSuchKey"), error(416, "InvalidRange"), error(409, "OperationAborted")]
)
async def test_a_good_signature_is_forgotten(said: bytes) -> None:
    """What the store says of the object itself it says to a good signature."""
    credentials = StoreCredentials()
    async with _store(credentials) as (store, server):
        credentials.hand_over(_keys("A"))
        credentials.hand_over(_keys("B"))
        server.script = [error(403, "AccessDenied"), said]
        with suppress(ObjectMissing, StoreError):
            await store.get("key")
    assert _names(credentials) == ["A", "B", "own"]


async def test_a_good_set_is_not_tried() -> None:
    """A refused set gives way to the next; the one that worked is tried first from then on."""
    credentials = StoreCredentials()
    async with _store(credentials) as (store, server):
        server.otherwise = _only("OLD")
        credentials.hand_over(_keys("OLD"))
        await store.put("a", b"x")
        credentials.hand_over(_keys("NEW"))
        await store.put("b", b"x")
        server.otherwise = _only("NEW")
        await store.put_if_absent("c", b"x")
        await store.put_if_absent("d", b"x")
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


# ── to which place ───────────────────────────────────────────────────────────────────────────────


@pytest.fixture
async def lab() -> AsyncIterator[Scripted]:
    """A server that only a client's profile knows."""
    async with scripted() as server:
        server.otherwise = _only("LAB")
        yield server


def _write_lab(tmp_path: Path, endpoint: str) -> dict[str, str]:
    config = tmp_path / "config"
    keys = "aws_access_key_id = LAB\naws_secret_access_key = s"
    config.write_text(f"[profile lab]\nendpoint_url = {endpoint}\nregion = lab-1\n{keys}\n")
    return {"AWS_PROFILE": "lab", "AWS_CONFIG_FILE": str(config)}


def _own(monkeypatch: pytest.MonkeyPatch, home: Path, endpoint: str) -> None:
    """Give the daemon keys and a place of its own."""
    (home.parent / "user" / ".aws").mkdir()
    (home.parent / "user" / ".aws" / "config").write_text(f"[default]\nendpoint_url = {endpoint}\n")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "OWN")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "s")


async def test_keys_go_where_others_lead(
    lab: Scripted, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each set is tried where its own profile leads, and nowhere else."""
    credentials = StoreCredentials()
    async with scripted() as away:
        away.otherwise = error(403, "AccessDenied")
        _own(monkeypatch, home, away.url)
        store = S3Store("s3://bucket", credentials, TestClock())
        with pytest.raises(AccessRefused):
            await store.put("key", b"x")
        credentials.hand_over(_write_lab(tmp_path, lab.url))
        await store.put("key", b"x")
        await store.aclose()
    assert [_signer(seen) for seen in lab.seen] == ["LAB"]
    assert {_signer(seen) for seen in away.seen} == {"OWN"}
    assert "/lab-1/s3/" in lab.seen[0].headers["authorization"]


async def test_an_address_does_not_rule_profiles(
    lab: Scripted, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The endpoint in the address wins over every set's."""
    credentials = StoreCredentials()
    async with scripted() as away:
        away.otherwise = error(403, "AccessDenied")
        _own(monkeypatch, home, "http://127.0.0.1:1")
        credentials.hand_over(_write_lab(tmp_path, lab.url))
        store = S3Store(f"s3://bucket?endpoint_url={away.url}", credentials, TestClock())
        with pytest.raises(AccessRefused):
            await store.put("key", b"x")
        await store.aclose()
    assert [_signer(seen) for seen in away.seen] == ["LAB", "OWN"]
    assert not lab.seen


@pytest.mark.parametrize(
    "said",
    [
        None,
        answer(404, b"404 page not found"),
        error(404, "NoSuchBucket"),
        error(403, "AccessDenied"),
        answer(301),
    ],
)
async def test_a_place_that_does_not_do_is_kept(
    said: bytes | None, lab: Scripted, tmp_path: Path
) -> None:
    """After a place did not do, the profile is read again: it may have been mended."""
    credentials = StoreCredentials()
    async with scripted() as wrong:
        wrong.otherwise = said
        credentials.hand_over(_write_lab(tmp_path, wrong.url))
        store = S3Store("s3://bucket", credentials, TestClock())
        with pytest.raises(StoreError):
            await store.put("key", b"x")
        _write_lab(tmp_path, lab.url)
        await store.put("key", b"x")
        await store.aclose()
    assert len(wrong.seen) == len(lab.seen) == 1


async def test_a_bad_profile_stops_other_sets(lab: Scripted, tmp_path: Path) -> None:
    """A set whose profile leads nowhere is passed over, and named where no other will do."""
    credentials = StoreCredentials()
    store = S3Store("s3://bucket", credentials, TestClock())
    bad = tmp_path / "bad"
    bad.write_text("[default]\nregion = eu west 1\n")
    credentials.hand_over({**_keys("BAD"), "AWS_CONFIG_FILE": str(bad)})
    with pytest.raises(AccessRefused, match="the region 'eu west 1' leads nowhere; the daemon's"):
        await store.put("key", b"x")
    credentials.hand_over(_write_lab(tmp_path, lab.url))
    credentials.hand_over({**_keys("BAD"), "AWS_CONFIG_FILE": str(bad)})
    await store.put("key", b"x")
    await store.aclose()


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
