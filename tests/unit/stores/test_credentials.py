"""Which sets of credentials are tried, in which order, and what makes one the first."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import pytest

from tests.support.http import answer, error
from tests.unit.stores.helpers import (
    keys_of,
    only,
    signer,
    store_at,
    store_with,
    write_profile,
)
from wherry.errors import AccessRefused, StoreError
from wherryd.stores.base import ObjectMissing
from wherryd.stores.credentials import OWN, CredentialSets, StoreCredentials


def _names(source: StoreCredentials) -> list[str]:
    return [(each.values or {}).get("AWS_ACCESS_KEY_ID", "own") for each in source.in_order()]


def test_sets_are_tried_in_another_order() -> None:
    """First the set that worked last, then the newest ones, then the daemon's own."""
    sets = CredentialSets()
    source = sets.source("s3://bucket")
    assert source.in_order() == [OWN]
    assert sets.hand_over("s3://bucket", keys_of("A"))
    assert not sets.hand_over("s3://bucket", keys_of("A"))
    assert not sets.hand_over("s3://bucket", {})
    source.note_worked(source.in_order()[0])
    sets.hand_over("s3://bucket", keys_of("B"))
    sets.hand_over("s3://bucket", keys_of("C"))
    assert _names(source) == ["A", "C", "B", "own"]
    source.note_worked(OWN)
    assert _names(source) == ["own", "C", "B", "A"]
    assert not sets.hand_over("s3://bucket", keys_of("B"))
    assert _names(source) == ["own", "B", "C", "A"]
    assert sets.source("s3://other").in_order() == [OWN]


def test_sets_are_kept_without_end() -> None:
    """The last four are kept, and the one that worked last."""
    source = StoreCredentials()
    for name in "ABCDEF":
        source.hand_over(keys_of(name))
        if name == "A":
            source.note_worked(source.in_order()[0])
    assert _names(source) == ["A", "F", "E", "D", "C", "own"]
    assert source.hand_over(keys_of("B"))


def test_a_mended_set_is_no_news() -> None:
    """A set that was refused is news when it comes again, and is not what was refused."""
    source = StoreCredentials()
    source.hand_over(keys_of("A"))
    (refused, _) = source.in_order()
    source.note_worked(refused)
    source.hand_over(keys_of("A"))
    assert source.in_order()[0] is refused
    source.note_refused(refused)
    assert source.hand_over(keys_of("A"))
    assert source.in_order()[0] == refused
    assert source.in_order()[0] is not refused
    assert not source.hand_over(keys_of("A"))


async def test_a_mended_file_is_not_read(tmp_path: Path) -> None:
    """The file of a set that was refused is read at once when the set is handed over again."""
    file = tmp_path / "credentials"
    write_profile(file, "OLD")
    given = {"AWS_PROFILE": "cats", "AWS_SHARED_CREDENTIALS_FILE": str(file)}
    credentials = StoreCredentials()
    credentials.hand_over(given)
    async with store_with(credentials) as (store, server):
        server.otherwise = only("NEW")
        with pytest.raises(AccessRefused):
            await store.put("a", b"x")
        write_profile(file, "NEW")
        assert credentials.hand_over(given)
        await store.put("a", b"x")
    assert [signer(seen) for seen in server.seen] == ["OLD", "NEW"]


async def test_two_projects_with_two_keys_shut_each_other_out() -> None:
    """Where each set has rights of its own, all calls get through, whoever came last."""
    credentials = StoreCredentials()
    rights = {"A": "/bucket/p1/", "B": "/bucket/p2/", "C": "/bucket/p3/"}
    async with store_with(credentials) as (store, server):
        server.otherwise = lambda seen: (
            answer(200, ETag='"e"')
            if seen.target.startswith(rights[signer(seen)])
            else error(403, "AccessDenied")
        )
        for name in rights:
            credentials.hand_over(keys_of(name))
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
    async with store_with(credentials) as (store, server):
        credentials.hand_over(keys_of("GOOD"))
        await store.put("a", b"x")
        credentials.hand_over(keys_of("WRONG"))
        server.script = [error(403, "AccessDenied"), said]
        with pytest.raises(StoreError):
            await store.put("b", b"x")
        await store.put("c", b"x")
    asked = [signer(seen) for seen in server.seen if seen.method != "HEAD"]  # for the region
    assert asked == ["GOOD", "GOOD", "WRONG", "GOOD"]


@pytest.mark.parametrize(
    "said", [error(404, "NoSuchKey"), error(416, "InvalidRange"), error(409, "OperationAborted")]
)
async def test_a_good_signature_is_forgotten(said: bytes) -> None:
    """What the store says of the object itself it says to a good signature."""
    credentials = StoreCredentials()
    async with store_with(credentials) as (store, server):
        credentials.hand_over(keys_of("A"))
        credentials.hand_over(keys_of("B"))
        server.script = [error(403, "AccessDenied"), said]
        with suppress(ObjectMissing, StoreError):
            await store.get("key")
    assert _names(credentials) == ["A", "B", "own"]


async def test_a_good_set_is_not_tried() -> None:
    """A refused set gives way to the next; the one that worked is tried first from then on."""
    credentials = StoreCredentials()
    async with store_with(credentials) as (store, server):
        server.otherwise = only("OLD")
        credentials.hand_over(keys_of("OLD"))
        await store.put("a", b"x")
        credentials.hand_over(keys_of("NEW"))
        await store.put("b", b"x")
        server.otherwise = only("NEW")
        await store.put_if_absent("c", b"x")
        await store.put_if_absent("d", b"x")
    assert [signer(seen) for seen in server.seen] == ["OLD", "OLD", "OLD", "NEW", "NEW"]


async def test_the_daemons_own_keys_are_not_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no client's set is taken, the daemon's own environment is asked."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "OWN")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "own secret")
    monkeypatch.setenv("AWS_SESSION_TOKEN", "own token")
    async with store_at(keys=keys_of("BAD")) as (store, server):
        server.otherwise = only("OWN")
        await store.put("a", b"x")
    assert [signer(seen) for seen in server.seen] == ["BAD", "OWN"]
    assert server.seen[1].headers["x-amz-security-token"] == "own token"
