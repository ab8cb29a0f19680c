"""Big files in parts, from the hash to what is given up."""

from __future__ import annotations

import hashlib
import os

import anyio
import pytest

from tests.support.memory import MemoryStore
from tests.unit.daemon.bench import Bench, digest
from wherry.errors import AccessRefused
from wherryd.model import PartSums, State, Upload
from wherryd.prepare import manifests
from wherryd.queue.base import Request
from wherryd.registry import layout
from wherryd.stores import parts
from wherryd.stores.base import Body, FileBody, Ledger
from wherryd.stores.probe import probe
from wherryd.transfer.contact import Contacts
from wherryd.transfer.given_up import Reclaimer

BUCKET = "s3://bucket"
BIG = os.urandom(5_000)


class PartsStore(MemoryStore):
    """Takes big bodies in steps, and remembers which uploads were given up."""

    def __init__(self, bench: Bench) -> None:
        super().__init__(bench.clock, BUCKET)
        self.ledger: Ledger | None = None
        self.gate = anyio.Event()
        self.begun = anyio.Event()
        self.given_up: list[tuple[str, str]] = []
        self.failure: Exception | None = None
        bench.stores[BUCKET] = bench.memory[BUCKET] = self

    async def put(self, key: str, body: Body) -> None:
        if isinstance(body, FileBody) and body.ledger:
            self.ledger = body.ledger
            await body.ledger.begin("upload", 1_000)
            self.begun.set()
            await self.gate.wait()
        await super().put(key, body)

    async def give_up(self, key: str, upload: str) -> None:
        if self.failure:
            raise self.failure
        self.given_up.append((key, upload))


@pytest.fixture(autouse=True)
def _small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Files above 2 kB are big, and parts have 1,024 bytes."""
    monkeypatch.setattr(parts, "SINGLE_PUT_BYTES", 2_000)
    monkeypatch.setattr(parts, "PART_BYTES", 1_024)
    monkeypatch.setattr(parts, "_MIB", 1_024)


@pytest.fixture
def store(bench: Bench) -> PartsStore:
    """A bucket."""
    return PartsStore(bench)


def _reclaimer(bench: Bench) -> Reclaimer:
    contacts = Contacts(
        bench.opened, lambda store: probe(store, bench.clock), bench.queue, bench.clock
    )
    return Reclaimer(contacts, bench.queue, bench.news, bench.clock)


async def _sending(bench: Bench, store: PartsStore) -> Request:
    """A request whose big file is on its way."""
    bench.preparer()
    bench.transferrer()
    request = await bench.log({"big": BIG}, store=BUCKET)
    with anyio.fail_after(20):
        await store.begun.wait()
    return request


async def test_parts_are_hashed_while_they_are_sent(bench: Bench, store: PartsStore) -> None:
    """What each part has to be is made with the digest of the whole, and there when it is sent."""
    request = await _sending(bench, store)
    wanted = b"".join(
        hashlib.sha256(BIG[at : at + 1_024]).digest() for at in range(0, len(BIG), 1_024)
    )
    assert store.ledger is not None
    assert await store.ledger.sums() == PartSums(1_024, wanted)
    assert await bench.queue.part_sums(request.row, digest(BIG)) == PartSums(1_024, wanted)
    store.gate.set()
    await bench.wait_state(request, State.UPLOADED)
    assert await bench.queue.uploads_at(BUCKET) == set()


async def test_parts_of_a_folder_are_hashed(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """A store that takes files whole costs no second hash."""
    asked: list[tuple[str, int]] = []

    def cut_for(address: str, size: int) -> int:
        asked.append((address, size))
        return kept(address, size)

    kept = manifests.cut_for
    monkeypatch.setattr(manifests, "cut_for", cut_for)
    bench.preparer()
    request = await bench.wait_state(await bench.log({"big": BIG}), State.PREPARED)
    assert asked and all(kept(*each) == 0 for each in asked)
    assert await bench.queue.part_sums(request.row, digest(BIG)) is None


async def test_cancelled_upload_stays(bench: Bench, store: PartsStore) -> None:
    """The parts of a request that was cancelled are given back; then nothing is kept of them."""
    bench.start(_reclaimer(bench).run())
    request = await _sending(bench, store)
    assert await bench.queue.uploads_at(BUCKET) == {"upload"}
    await bench.queue.cancel(request.row)
    with anyio.fail_after(20):
        while await bench.queue.uploads_at(BUCKET):
            await anyio.sleep(0)
    assert store.given_up == [(layout.blob_key("cats", digest(BIG)), "upload")]


async def test_trouble_keeps_parts_for_ever(bench: Bench, store: PartsStore) -> None:
    """Where the store can't be reached, the parts are given back later."""
    request = await _sending(bench, store)
    await bench.queue.cancel(request.row)
    store.failure = AccessRefused("not yours")  # not repeated below
    reclaimer = _reclaimer(bench)
    assert not await reclaimer.reclaim()
    assert await bench.queue.uploads_at(BUCKET) == {"upload"}
    store.failure = None
    bench.start(reclaimer.run())
    with anyio.fail_after(20):
        while await bench.queue.uploads_at(BUCKET):
            bench.clock.advance(10)
            await anyio.sleep(0)
    assert len(store.given_up) == 1


async def test_upload_of_another_store_is_given_back_here(bench: Bench, store: PartsStore) -> None:
    """What began in a store that counts no more is not looked for in the one that does."""
    request = await _sending(bench, store)
    await bench.queue.cancel(request.row)
    (given,) = await bench.queue.given_up()
    await bench.queue.forget_upload(given.number)
    await bench.queue.begin_upload(request.row, request.lane, "sha256:x", "another", "old", 1_024)
    assert await _reclaimer(bench).reclaim()
    assert store.given_up == []
    assert await bench.queue.uploads_at(BUCKET) == set()


async def test_next_request_begins_anew(bench: Bench, store: PartsStore) -> None:
    """A later request with the same bytes goes on with what an earlier one left."""
    first = await _sending(bench, store)
    await bench.queue.cancel(first.row)
    second = await bench.log({"other": BIG}, name="second", store=BUCKET)
    await bench.wait_state(second, State.PREPARED)
    taken = await bench.queue.take_upload(second.row, second.lane, digest(BIG))
    assert isinstance(taken, Upload) and taken.name == "upload"
    assert await bench.queue.given_up() == []
