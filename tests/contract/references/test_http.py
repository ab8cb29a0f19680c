"""What servers of URLs show, on real sockets: what is recorded, and what goes wrong on a bad day."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import anyio
import pytest

from tests.support.http import CERTIFICATE, Cut, Line, Scripted, answer, scripted
from tests.support.http import Seen as Request
from tests.support.servers import free_ports
from wherry.errors import ReferenceFailed, ReferenceUnavailable
from wherryd.clock import SystemClock
from wherryd.references.base import Found, Seen, Target
from wherryd.references.http import HttpResolver
from wherryd.references.session import Session

SOON_S = 0.3
Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@pytest.fixture
async def resolver() -> AsyncIterator[HttpResolver]:
    made = HttpResolver(SystemClock(), Session())
    yield made
    await made.aclose()


@pytest.fixture
async def hasty() -> AsyncIterator[HttpResolver]:
    """One that waits for an answer ``SOON_S`` only."""
    made = HttpResolver(SystemClock(), Session(SOON_S))
    yield made
    await made.aclose()


@asynccontextmanager
async def serving(serve: Serve) -> AsyncIterator[str]:
    """A server of the test's own words; its URL."""

    async def serve_one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await reader.readuntil(b"\r\n\r\n")
            await serve(reader, writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(serve_one, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()


def good(etag: str = '"e"', body: bytes = b"x") -> Line:
    return whole(answer(200, body, ETag=etag))


def whole(said: bytes) -> Line:
    """Without its body where only the head is asked for."""

    def say(request: Request) -> bytes:
        return said if request.method == "GET" else said.partition(b"\r\n\r\n")[0] + b"\r\n\r\n"

    return say


def head(status: int = 200, **headers: str) -> bytes:
    """The answer to a HEAD: no body follows, whatever length it tells."""
    lines = [f"HTTP/1.1 {status} Said"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join(lines).encode() + b"\r\n\r\n"


def seen(url: str, etag: str | None = "etag:e", size: int | None = None) -> Seen:
    return Seen(url, "", etag, size, None)


async def content(resolver: HttpResolver, what: Seen, start: int = 0) -> bytes:
    return b"".join([chunk async for chunk in resolver.open(what, start)])


# ── what is recorded ─────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize(
    ("headers", "digest", "size"),
    [
        ({"ETag": '"e"', "Content_Length": "12"}, "etag:e", 12),
        ({"ETag": 'W/"e"', "Content_Length": "12"}, 'etag:W/"e"', 12),
        ({"ETag": '"e"', "Transfer_Encoding": "chunked"}, "etag:e", None),
        ({"Content_Length": "12"}, None, 12),
        ({"ETag": '"e"', "Content_Length": "12", "Content_Encoding": "br"}, "etag:e", None),
    ],
)
async def test_answer_is_recorded_otherwise(
    resolver: HttpResolver, headers: dict[str, str], digest: str | None, size: int | None
) -> None:
    """ETag, strong or weak as given, and length are recorded, each where it is told."""
    async with scripted(head(**headers)) as server:
        url = f"{server.url}/a%20b/model.h5?x=1"
        found = await resolver.look(Target(url))
        assert found == Found(url, "model.h5", digest, size)
        (asked,) = server.seen
        assert (asked.method, asked.target) == ("HEAD", "/a%20b/model.h5?x=1")
        assert asked.headers["accept-encoding"] == "identity"


@pytest.mark.parametrize("status", [403, 405, 501])
async def test_refused_head_is_final(resolver: HttpResolver, status: int) -> None:
    """Where HEAD is refused, the first byte is asked for by GET; its answer tells the whole size."""
    part = answer(206, b"x", ETag='"e"', Content_Range="bytes 0-0/1000")
    async with scripted(head(status, Content_Length="0"), part) as server:
        found = await resolver.look(Target(f"{server.url}/m"))
        assert found == Found(f"{server.url}/m", "m", "etag:e", 1000)
        assert [each.method for each in server.seen] == ["HEAD", "GET"]
        assert server.seen[1].headers["range"] == "bytes=0-0"


async def test_head_that_says_nothing_is_believed(resolver: HttpResolver) -> None:
    """An answer with neither ETag nor length is asked for again by GET; what that tells is recorded."""
    async with scripted(head(Connection="close"), good()) as server:
        found = await resolver.look(Target(f"{server.url}/m"))
        assert found == Found(f"{server.url}/m", "m", "etag:e", 1)


async def test_empty_file_is_refused(resolver: HttpResolver) -> None:
    """An empty file has no first byte; the refusal tells its size."""
    none = answer(416, b"", ETag='"e"', Content_Range="bytes */0")
    async with scripted(head(405, Content_Length="0"), none) as server:
        found = await resolver.look(Target(f"{server.url}/m"))
        assert found == Found(f"{server.url}/m", "m", "etag:e", 0)


async def test_whole_body_is_read_for_a_byte(resolver: HttpResolver) -> None:
    """A server that sends all instead of a byte is hung up on."""
    sent, hung_up = 0, asyncio.Event()

    async def serve(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        if not hung_up.is_set() and not sent:
            sent = 1
            writer.write(head(405, Content_Length="0", Connection="close"))
            return
        writer.write(head(ETag='"e"', Content_Length=str(1 << 40)))
        try:
            while True:
                writer.write(bytes(1 << 16))
                await writer.drain()
                sent += 1 << 16
        finally:
            hung_up.set()

    async with serving(serve) as url:
        found = await resolver.look(Target(f"{url}/m"))
        assert found is not None
        assert found.size == 1 << 40
        with anyio.fail_after(20):
            await hung_up.wait()
        assert sent < 64 << 20  # what sockets hold


async def test_each_question_opens_a_connection(resolver: HttpResolver) -> None:
    """Connections are kept for the next question."""
    async with scripted(*(head(ETag='"e"', Content_Length="9") for _ in range(3))) as server:
        for _ in range(3):
            await resolver.look(Target(f"{server.url}/m"))
        assert [each.reused for each in server.seen] == [False, True, True]


async def test_pool_has_no_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many questions there are, so many connections are open in all, and each gets its answer."""
    monkeypatch.setattr("wherryd.references.session.IN_ALL", 5)
    resolver, now, most = HttpResolver(SystemClock(), Session()), 0, 0

    async def serve(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal now, most
        now += 1
        most = max(most, now)
        await asyncio.sleep(0.01)
        writer.write(head(ETag='"e"', Content_Length="1", Connection="close"))
        await writer.drain()
        now -= 1

    async with serving(serve) as one, serving(serve) as other:
        uris = [f"{url}/{n}" for n in range(20) for url in (one, other)]
        found = await asyncio.gather(*(resolver.look(Target(uri)) for uri in uris))
    assert [each and each.digest for each in found] == ["etag:e"] * len(uris)
    assert most <= 5
    await resolver.aclose()


# ── redirects ────────────────────────────────────────────────────────────────────────────────────
def to(where: str) -> bytes:
    return answer(302, Location=where)


async def test_tenth_redirect_is_not_followed(resolver: HttpResolver) -> None:
    """Ten redirects are followed, also relative ones, and the given URI is kept; eleven fail."""
    for count, is_good in ((10, True), (11, False)):
        async with scripted(*(to(f"/{n}") for n in range(count)), good()) as server:
            target = Target(f"{server.url}/m")
            if is_good:
                assert await resolver.look(target) == Found(target.uri, "m", "etag:e", 1)
                continue
            with pytest.raises(ReferenceFailed, match="redirected more than 10 times") as caught:
                await resolver.look(target)
            assert target.uri in str(caught.value)


async def test_redirect_loop_never_ends(resolver: HttpResolver) -> None:
    """A loop is final."""
    async with scripted() as server:
        server.otherwise = to("/m")
        with pytest.raises(ReferenceFailed, match="redirected more than 10 times"):
            await resolver.look(Target(f"{server.url}/m"))
        assert len(server.seen) == 11


async def test_secure_redirect_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """From http to https is followed, from https to http is not, nor to other schemes."""
    monkeypatch.setenv("SSL_CERT_FILE", str(CERTIFICATE))
    resolver = HttpResolver(SystemClock(), Session())
    async with scripted(good()) as plain, scripted(good(), scheme="https") as secure:
        plain.script.insert(0, to(f"{secure.url}/x"))
        found = await resolver.look(Target(f"{plain.url}/m"))
        assert found == Found(f"{plain.url}/m", "m", "etag:e", 1)
        secure.script.insert(0, to(f"{plain.url}/x"))
        with pytest.raises(ReferenceFailed, match="not followed, as it is no https URL"):
            await resolver.look(Target(f"{secure.url}/m"))
        for where in ("ftp://host/x", "file:///etc/passwd", "http://["):
            plain.script.insert(0, to(where))
            with pytest.raises(ReferenceFailed, match="is redirected to"):
                await resolver.look(Target(f"{plain.url}/m"))
    await resolver.aclose()


# ── secrets ──────────────────────────────────────────────────────────────────────────────────────
async def test_password_is_told(resolver: HttpResolver) -> None:
    """A password goes to its own host, to nobody that this one points at, and into no message."""
    async with scripted(answer(404)) as other, scripted(to(f"{other.url}/x")) as server:
        url = server.url.replace("http://", "http://me:geheim@")
        with pytest.raises(ReferenceFailed) as caught:
            await resolver.look(Target(f"{url}/m"))
        assert "geheim" not in str(caught.value)
        assert "404" in str(caught.value)
        basic = "Basic " + base64.b64encode(b"me:geheim").decode()
        assert server.seen[0].headers["authorization"] == basic
        assert "authorization" not in other.seen[0].headers


async def test_proxy_is_passed_by(monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment's proxy is asked, but for hosts that it leaves out."""
    async with scripted(good(), good()) as proxy, scripted(good()) as server:
        monkeypatch.setenv("http_proxy", proxy.url)
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        resolver = HttpResolver(SystemClock(), Session())
        await resolver.look(Target("http://data.example.org/m"))
        assert proxy.seen[0].target == "http://data.example.org/m"
        await resolver.look(Target(f"{server.url}/m"))
        assert (len(proxy.seen), len(server.seen)) == (1, 1)
        await resolver.aclose()


# ── bad days ─────────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize("status", [400, 401, 404, 410])
async def test_refusal_is_tried_again(resolver: HttpResolver, status: int) -> None:
    """What the server refuses for good is final, with status and URI."""
    async with scripted(answer(status)) as server:
        with pytest.raises(ReferenceFailed, match=f"answers {status} for {server.url}/m"):
            await resolver.look(Target(f"{server.url}/m"))
        assert len(server.seen) == 1


async def test_forbidden_is_tried_again(resolver: HttpResolver) -> None:
    """403 to HEAD and to GET is final."""
    async with scripted(answer(403), answer(403)) as server:
        with pytest.raises(ReferenceFailed, match=f"answers 403 for {server.url}/m"):
            await resolver.look(Target(f"{server.url}/m"))


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
async def test_passing_trouble_is_final(resolver: HttpResolver, status: int) -> None:
    """What may pass is told with the host, and with how long it wants to be left alone."""
    async with scripted(answer(status, Retry_After="7")) as server:
        with pytest.raises(ReferenceUnavailable, match=f"answers {status}") as caught:
            await resolver.look(Target(f"{server.url}/m"))
        assert caught.value.host == f"127.0.0.1:{server.port}"
        assert caught.value.retry_after_s == 7


@pytest.mark.parametrize(
    "line",
    [
        pytest.param(None, id="closes"),
        pytest.param(Cut(b'HTTP/1.1 200 OK\r\nETag: "'), id="closes in mid-header"),
        pytest.param(Cut(b"SSH-2.0-OpenSSH_9.2\r\n\r\n"), id="no HTTP"),
        pytest.param(..., id="says nothing"),
    ],
)
async def test_no_answer_is_final(hasty: HttpResolver, line: Line) -> None:
    """A server that takes the connection and gives no answer may do better later."""
    async with scripted(line, line) as server:  # aiohttp asks once more on a fresh connection
        with pytest.raises(ReferenceUnavailable, match=f"gives no answer for {server.url}/m") as e:
            await hasty.look(Target(f"{server.url}/m"))
        assert e.value.host == f"127.0.0.1:{server.port}"
        assert not e.value.unknown_name


async def test_trickle_is_waited_for(hasty: HttpResolver) -> None:
    """A server that sends a byte now and then does not hold a place for ever."""

    async def serve(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for byte in b"HTTP/1.1 200 OK\r\nX: " + b"x" * 10_000:
            writer.write(bytes([byte]))
            await writer.drain()
            await asyncio.sleep(SOON_S / 6)

    async with serving(serve) as url:
        with pytest.raises(ReferenceUnavailable, match="nothing came in time"):
            await hasty.look(Target(f"{url}/m"))


async def test_closed_port_is_final(resolver: HttpResolver) -> None:
    """A server that is down may come back."""
    url = f"http://127.0.0.1:{free_ports(1)[0]}/m"
    with pytest.raises(ReferenceUnavailable, match="gives no answer"):
        await resolver.look(Target(url))


async def test_unknown_name_is_like_a_server_that_is_down(resolver: HttpResolver) -> None:
    """A host's name that nobody knows is told apart."""
    with pytest.raises(ReferenceUnavailable, match=r"no-such-host\.invalid is no host's name") as e:
        await resolver.look(Target("http://no-such-host.invalid/m"))
    assert e.value.unknown_name


@pytest.mark.parametrize("name", ["127.0.0.1", "localhost"])
async def test_wrong_certificate_is_taken(resolver: HttpResolver, name: str) -> None:
    """A host that can't prove who it is is final, and nothing is asked of it."""
    async with scripted(good(), scheme="https") as server:
        with pytest.raises(ReferenceFailed, match="can't prove that it is the host of"):
            await resolver.look(Target(f"https://{name}:{server.port}/m"))
        assert not server.seen


# ── reading back ─────────────────────────────────────────────────────────────────────────────────
@pytest.mark.parametrize(
    ("said", "how"),
    [
        (good('"other"', b"four"), "its ETag was etag:e and is etag:other"),
        (good('"e"', b"five!"), "it had 4 bytes, and has 5"),
        (whole(answer(200, b"four")), "its ETag was etag:e and is missing"),
    ],
    ids=["ETag", "size", "no ETag"],
)
async def test_change_is_not_named(resolver: HttpResolver, said: Line, how: str) -> None:
    """Another ETag or size is an error before the first byte, and what changed is named."""
    async with scripted(said, said) as server:
        what = seen(f"{server.url}/m", size=4)
        for ask in (resolver.check(what), content(resolver, what)):
            with pytest.raises(ReferenceFailed, match=how):
                await ask


async def test_weak_etag_is_another(resolver: HttpResolver) -> None:
    """What a proxy made weak on the way is the same still."""
    async with scripted(good('W/"e"')) as server:
        assert await content(resolver, seen(f"{server.url}/m", size=1)) == b"x"


def _ranged(scripted_: Scripted) -> tuple[str | None, str | None]:
    headers = scripted_.seen[-1].headers
    return headers.get("range"), headers.get("if-range")


@pytest.mark.parametrize(
    ("etag", "condition"), [("etag:e", '"e"'), ('etag:W/"e"', None), (None, None)]
)
async def test_rest_begins_elsewhere(
    resolver: HttpResolver, etag: str | None, condition: str | None
) -> None:
    """The rest of an answer is asked for by its range, of the same object where a strong ETag names it."""
    header = {"ETag": (etag or "").removeprefix("etag:")} if etag else {}
    if etag == "etag:e":
        header = {"ETag": '"e"'}
    part = answer(206, b"789", Content_Range="bytes 7-9/10", **header)
    async with scripted(part) as server:
        assert await content(resolver, seen(f"{server.url}/m", etag, 10), 7) == b"789"
        assert _ranged(server) == ("bytes=7-", condition)


async def test_server_without_ranges_gives_the_beginning_twice(resolver: HttpResolver) -> None:
    """Of a server that gives all, or more than was asked for, the first bytes are passed over."""
    early = answer(206, b"56789", ETag='"e"', Content_Range="bytes 5-9/10")
    async with scripted(good(body=b"0123456789"), early) as server:
        for _ in range(2):
            assert await content(resolver, seen(f"{server.url}/m", size=10), 7) == b"789"


async def test_rest_of_another_object_is_taken(resolver: HttpResolver) -> None:
    """A rest that belongs to another object, or begins too late, is none."""
    other = answer(206, b"789", ETag='"other"', Content_Range="bytes 7-9/10")
    late = answer(206, b"89", ETag='"e"', Content_Range="bytes 8-9/10")
    async with scripted(other, late) as server:
        with pytest.raises(ReferenceFailed, match="its ETag was etag:e and is etag:other"):
            await content(resolver, seen(f"{server.url}/m", size=10), 7)
        with pytest.raises(ReferenceUnavailable, match="got bytes 8-9/10"):
            await content(resolver, seen(f"{server.url}/m", size=10), 7)


async def test_cut_body_is_whole(resolver: HttpResolver) -> None:
    """A body that ends early is no answer."""
    async with scripted(Cut(answer(200, b"x" * 100, ETag='"e"')[:-50])) as server:
        with pytest.raises(ReferenceUnavailable, match="gives no answer"):
            await content(resolver, seen(f"{server.url}/m"))
