"""Tokens for a store: found anew when they are refused, and for as long as a set is the same."""

from __future__ import annotations

import json
from pathlib import Path

from tests.support.http import answer, scripted
from tests.unit.references.test_gs import _key_file, _signed_by
from tests.unit.stores.helpers import TestClock
from wherryd.stores.credentials import StoreCredentials
from wherryd.stores.gs.identity import READ_WRITE, GoogleIdentity, Identities


def _token(name: str) -> bytes:
    told = json.dumps({"access_token": name, "expires_in": 3600}).encode()
    return answer(200, told, Content_Type="application/json")


async def test_refused_token_is_shown_again(tmp_path: Path) -> None:
    """A refused token is replaced, for all who had it, and not more often than every few seconds."""
    clock = TestClock()
    async with scripted(_token("A"), _token("B"), _token("C")) as server:
        credentials = _key_file(tmp_path / "key.json", server.url)
        identity = GoogleIdentity(credentials, clock, READ_WRITE)
        assert await identity.token() == "A"
        assert await identity.other_token("A") is None  # it was made just now
        clock.time += 6
        assert await identity.other_token("A") == "B"
        assert await identity.other_token("A") == "B"
        assert await identity.token() == "B"
        assert await identity.other_token("B") is None
        assert len(server.seen) == 2
        assertion = server.seen[0].body.decode().rpartition("assertion=")[2].partition("&")[0]
        assert _signed_by(tmp_path / "key.json", assertion)["scope"] == READ_WRITE
        await identity.aclose()


async def test_token_that_can_not_be_replaced_stays(tmp_path: Path) -> None:
    """Where no other token comes, there is none for a while, and then one again."""
    clock = TestClock()
    async with scripted(_token("A"), *[answer(400)] * 9) as server:
        credentials = _key_file(tmp_path / "key.json", server.url)
        identity = GoogleIdentity(credentials, clock, READ_WRITE)
        assert await identity.token() == "A"
        clock.time += 6
        assert await identity.other_token("A") is None
        assert await identity.token() is None
        server.script[:] = [_token("B")]
        clock.time += 6
        assert await identity.token() == "B"
        await identity.aclose()


async def test_set_that_comes_anew_keeps_its_token() -> None:
    """A set is asked for once, as long as it is the same; one that is handed over anew is read anew, and one
    that is no more is forgotten.
    """
    credentials = StoreCredentials()
    identities = Identities(credentials, TestClock(), READ_WRITE)
    credentials.hand_over({"GOOGLE_APPLICATION_CREDENTIALS": "a.json"})
    first, own = await identities.in_order()
    assert [first, own] == await identities.in_order()
    assert str(first.credentials) == "a.json of a client"
    credentials.note_refused(first.credentials)
    credentials.hand_over({"GOOGLE_APPLICATION_CREDENTIALS": "a.json"})
    again, still_own = await identities.in_order()
    assert again is not first and still_own is own
    for number in range(9):
        credentials.hand_over({"GOOGLE_APPLICATION_CREDENTIALS": f"{number}.json"})
    assert again not in await identities.in_order()
    await identities.aclose()
