"""From lookups to entries."""

from __future__ import annotations

import anyio
import pytest

from tests.support.resolving import lookup
from tests.unit.daemon.bench import REFERENCE_TIMEOUT_S, Bench
from wherry.errors import ReferenceUnavailable
from wherryd.clock import rfc3339
from wherryd.model import Manifest, State
from wherryd.prepare.courtesy import LONGEST_S
from wherryd.prepare.lookups import NAME_TRIES
from wherryd.prepare.manifests import ManifestMaker
from wherryd.queue.base import Request


async def _paths(bench: Bench, request: Request) -> dict[str, tuple[str | None, int]]:
    entries = await bench.queue.entries(request.row)
    return {entry.path: (entry.digest, entry.size) for entry in entries}


def _down(host: str = "h", **more: object) -> ReferenceUnavailable:
    return ReferenceUnavailable(f"{host} is down", host=host, **more)  # type: ignore[arg-type]


async def test_reference_is_recorded_otherwise(bench: Bench) -> None:
    """An object becomes one entry, a prefix one for each object below it, beside files."""
    objects = bench.resolver.objects
    objects.update({"http://h/a.txt": "e1", "bucket://b/model": "e2"})
    bench.resolver.sums["http://h/a.txt"] = ("md5:0a", "sha1:0b")
    objects.update({f"bucket://b/img/{n}.png": f"i{n}" for n in range(5)})
    request = await bench.log(
        {"z": b"zz"},
        lookups=(
            lookup(0, "http://h/a.txt", "text"),
            lookup(1, "bucket://b/model"),
            lookup(2, "bucket://b/img", "images"),
        ),
    )
    bench.preparer()
    done = await bench.wait_state(request, State.PREPARED)
    assert done.lookups == 0
    found = await _paths(bench, request)
    images = {f"images/{n}.png": (f"etag:i{n}", 2) for n in range(5)}
    assert found.pop("z")[1] == 2
    assert found == {"text": ("etag:e1", 2), "model": ("etag:e2", 2), **images}
    (text,) = [e for e in await bench.queue.entries(request.row) if e.path == "text"]
    assert text.reference is not None
    assert text.reference.resolved == rfc3339(bench.clock.now())
    assert text.reference.sums == ("md5:0a", "sha1:0b")


async def test_manifest_is_made_twice(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """A request whose lookups are done is worked on once, however often the stage looks meanwhile."""
    bench.resolver.objects["http://h/a"] = "a"
    request = await bench.log({}, lookups=(lookup(0, "http://h/a", "a"),))
    stage, make = bench.preparer_stage(), ManifestMaker.make
    made: list[int] = []

    async def slow(self: ManifestMaker, request: Request) -> Manifest:
        made.append(request.row)
        for _ in range(20):
            stage.crew.wake()
            await anyio.wait_all_tasks_blocked()
        return await make(self, request)

    monkeypatch.setattr(ManifestMaker, "make", slow)
    bench.start(stage.run())
    await bench.wait_state(request, State.PREPARED)
    assert made == [request.row]


async def test_killed_daemon_asks_again(bench: Bench) -> None:
    """What was found is not asked for again; a listing goes on where it was."""
    objects = bench.resolver.objects
    objects.update({f"bucket://b/i/{n}": "e" for n in range(6)} | {"http://h/a": "a"})
    bench.resolver.gates["http://h/a"] = anyio.Event()
    request = await bench.log(
        {}, lookups=(lookup(0, "bucket://b/i", "i"), lookup(1, "http://h/a", "a"))
    )
    first = bench.start(bench.preparer_stage().run())
    with anyio.fail_after(20):
        while len(await _paths(bench, request)) < 4:
            await anyio.lowlevel.checkpoint()
    first.cancel()
    del bench.resolver.gates["http://h/a"]
    bench.resolver.asked.clear()
    bench.preparer()
    await bench.wait_state(request, State.PREPARED)
    assert len(await _paths(bench, request)) == 7
    again = [after for uri, after in bench.resolver.asked if uri == "bucket://b/i"]
    assert "" not in again and None not in again


async def test_too_many_objects_are_taken(bench: Bench) -> None:
    """A prefix with more objects than allowed fails the request, which takes no number."""
    bench.resolver.objects.update({f"bucket://b/i/{n}": "e" for n in range(5)})
    few = await bench.log({}, lookups=(lookup(0, "bucket://b/i", max_objects=4),), name="few")
    all_ = await bench.log({}, lookups=(lookup(0, "bucket://b/i", max_objects=5),), name="all")
    bench.preparer()
    failed = await bench.wait_state(few, State.FAILED)
    assert "more than 4" in failed.reason and "bucket://b/i" in failed.reason
    await bench.wait_state(all_, State.PREPARED)


async def test_retry_keeps_what_is_gone(bench: Bench) -> None:
    """A listing that failed begins anew when it is retried; what was deleted meanwhile is no entry."""
    objects = bench.resolver.objects
    objects.update({f"bucket://b/i/{n}": "e" for n in range(5)})
    request = await bench.log({}, lookups=(lookup(0, "bucket://b/i", max_objects=4),))
    bench.preparer()
    await bench.wait_state(request, State.FAILED)
    del objects["bucket://b/i/0"]
    await bench.queue.retry(request.row)
    await bench.wait_state(request, State.PREPARED)
    assert sorted(await _paths(bench, request)) == ["1", "2", "3", "4"]


@pytest.mark.parametrize("uri", ["http://h/gone", "bucket://b/nothing", "ftp://h/x"])
async def test_reference_that_can_not_be_stops_others(bench: Bench, uri: str) -> None:
    """What is not there, or nobody can ask for, fails alone, with its URI in the reason."""
    bad = await bench.log({}, lookups=(lookup(0, uri),), name="bad")
    good = await bench.log({"a": b"a"}, name="good")
    bench.preparer()
    failed = await bench.wait_state(bad, State.FAILED)
    assert failed.error == "ReferenceFailed"
    assert uri in failed.reason
    await bench.wait_state(good, State.PREPARED)


async def test_two_references_on_one_path(bench: Bench) -> None:
    """Two things that land on one path fail the request, naming both; the same one twice is fine."""
    bench.resolver.objects.update({"http://h/a": "e", "bucket://b/a": "e", "bucket://c/a": "f"})
    bad = await bench.log(
        {}, lookups=(lookup(0, "bucket://b/a"), lookup(1, "bucket://c/a")), name="bad"
    )
    same = await bench.log(
        {}, lookups=(lookup(0, "bucket://b/a"), lookup(1, "bucket://b/a", "a")), name="same"
    )
    file = await bench.log({"a": b"x"}, lookups=(lookup(0, "bucket://b/a"),), name="file")
    bench.preparer()
    failed = await bench.wait_state(bad, State.FAILED)
    assert "bucket://b/a" in failed.reason and "bucket://c/a" in failed.reason
    await bench.wait_state(same, State.PREPARED)
    assert "a file that was added" in (await bench.wait_state(file, State.FAILED)).reason


async def test_trouble_is_not_told(bench: Bench) -> None:
    """A server that gives no answer is named in the row, with the next try's time, and tried again."""
    bench.resolver.objects["http://h/a"] = "e"
    bench.resolver.errors["http://h/a"] = [_down(retry_after_s=20.0)]
    request = await bench.log({}, lookups=(lookup(0, "http://h/a", "a"),))
    bench.preparer()
    waiting = await bench.wait_row(request, lambda now: now.error)
    assert (waiting.error, waiting.state) == ("ReferenceUnavailable", State.ACCEPTED)
    assert "h is down" in waiting.reason
    assert waiting.next_try == bench.clock.now() + 20
    await _pass_time(bench, request, State.PREPARED)


async def test_patience_never_ends(bench: Bench) -> None:
    """A server that never answers fails the request after the timeout, and not before."""
    bench.resolver.errors["http://h/a"] = [_down() for _ in range(10_000)]
    request = await bench.log({}, lookups=(lookup(0, "http://h/a", "a"),))
    bench.preparer()
    began = bench.clock.monotonic()
    await bench.wait_row(request, lambda now: now.error)
    failed = await _pass_time(bench, request, State.FAILED)
    assert failed.error == "ReferenceFailed"
    assert "h is down" in failed.reason and "30 min" in failed.reason
    assert bench.clock.monotonic() - began >= REFERENCE_TIMEOUT_S


async def test_unknown_name_is_tried_for_ever(bench: Bench) -> None:
    """A name that does not exist is asked for three times."""
    bench.resolver.errors["http://no.such/a"] = [
        _down("no.such", unknown_name=True) for _ in range(100)
    ]
    request = await bench.log({}, lookups=(lookup(0, "http://no.such/a", "a"),))
    bench.preparer()
    await bench.wait_row(request, lambda now: now.error)
    await _pass_time(bench, request, State.FAILED)
    assert len(bench.resolver.asked) == NAME_TRIES


async def test_waiting_requests_fill_all_places(bench: Bench) -> None:
    """However many wait for a server, files are prepared and other servers asked."""
    bench.resolver.gates["http://dead/a"] = anyio.Event()
    for number in range(200):
        await bench.log({}, lookups=(lookup(0, "http://dead/a", "a"),), name=f"dead{number}")
    good = await bench.log({"a": b"a"}, name="good")
    bench.preparer()
    await bench.wait_state(good, State.PREPARED)


async def test_listing_makes_training_wait(bench: Bench) -> None:
    """While requests come in, pages are asked for one by one, with a pause before each."""
    bench.resolver.objects.update({f"bucket://b/i/{n}": "e" for n in range(5)})
    requests = [
        await bench.log({}, lookups=(lookup(0, "bucket://b/i/"),), name=f"n{n}") for n in range(3)
    ]
    coming = True
    bench.preparer(lambda: coming)

    def pages() -> int:
        return sum(after is not None for _, after in bench.resolver.asked)

    for count in range(3):
        assert pages() <= count
        while pages() <= count:
            bench.clock.advance(LONGEST_S / 10)
            await anyio.wait_all_tasks_blocked()
            await bench.queue.counts()  # to the queue's thread and back
        assert pages() == count + 1
    coming = False
    for request in requests:
        await _pass_time(bench, request, State.PREPARED)


async def _pass_time(bench: Bench, request: Request, state: State) -> Request:
    with anyio.fail_after(30):
        while (now := await bench.queue.get(request.row)).state is not state:
            bench.clock.advance(5)
            await anyio.wait_all_tasks_blocked()
    return now
