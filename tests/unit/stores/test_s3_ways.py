"""Each set of credentials has a place of its own."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.support.http import Scripted, answer, error, scripted
from tests.unit.stores.helpers import (
    TestClock,
    keys_of,
    only,
    signer,
)
from wherry.errors import AccessRefused, StoreError
from wherryd.stores.credentials import StoreCredentials
from wherryd.stores.s3.store import S3Store


@pytest.fixture
async def lab() -> AsyncIterator[Scripted]:
    """A server that only a client's profile knows."""
    async with scripted() as server:
        server.otherwise = only("LAB")
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
    assert [signer(seen) for seen in lab.seen] == ["LAB"]
    assert {signer(seen) for seen in away.seen} == {"OWN"}
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
    assert [signer(seen) for seen in away.seen] == ["LAB", "OWN"]
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
    assert [seen.method for seen in wrong.seen if seen.method != "HEAD"] == [
        "PUT"
    ]  # it asks for its region
    assert len(lab.seen) == 1


async def test_a_bad_profile_stops_other_sets(lab: Scripted, tmp_path: Path) -> None:
    """A set whose profile leads nowhere is passed over, and named where no other will do."""
    credentials = StoreCredentials()
    store = S3Store("s3://bucket", credentials, TestClock())
    bad = tmp_path / "bad"
    bad.write_text("[default]\nregion = eu west 1\n")
    credentials.hand_over({**keys_of("BAD"), "AWS_CONFIG_FILE": str(bad)})
    with pytest.raises(AccessRefused, match="the region 'eu west 1' leads nowhere; the daemon's"):
        await store.put("key", b"x")
    credentials.hand_over(_write_lab(tmp_path, lab.url))
    credentials.hand_over({**keys_of("BAD"), "AWS_CONFIG_FILE": str(bad)})
    await store.put("key", b"x")
    await store.aclose()
