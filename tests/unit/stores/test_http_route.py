"""Proxies and certificates, as the daemon's environment has them."""

from __future__ import annotations

import logging
import socket
from base64 import b64encode
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest

from tests.support.http import CERTIFICATE, Scripted, answer, scripted
from tests.unit.stores.helpers import KEYS, TestClock
from wherry.errors import StoreError, StoreUnavailable
from wherryd.stores.credentials import StoreCredentials
from wherryd.stores.http import transport
from wherryd.stores.http.transport import Request, Transport
from wherryd.stores.s3.store import S3Store
from wherryd.stores.traffic import Traffic


@asynccontextmanager
async def _opened(endpoint: str, keys: Mapping[str, str] = KEYS) -> AsyncIterator[S3Store]:
    credentials = StoreCredentials()
    credentials.hand_over(keys)
    store = S3Store(f"s3://bucket?endpoint_url={endpoint}&region=r", credentials, TestClock())
    try:
        yield store
    finally:
        await store.aclose()


async def _put(endpoint: str, keys: Mapping[str, str] = KEYS) -> None:
    async with _opened(endpoint, keys) as store:
        await store.put("key", b"x")


# ── names ────────────────────────────────────────────────────────────────────────────────────────
async def test_a_server_that_has_moved_is_asked_where_it_was(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A name is resolved anew after some seconds: an open store finds its server at its new address."""
    monkeypatch.setattr(transport, "_NAMES_S", 0.2)
    where, resolve = "127.0.0.66", socket.getaddrinfo

    def resolve_moved(host: str, *args: Any, **options: Any) -> Any:
        return resolve(where if host == "s3.moved.test" else host, *args, **options)

    monkeypatch.setattr(socket, "getaddrinfo", resolve_moved)
    async with scripted() as server:
        server.otherwise = answer(200, ETag="x")
        async with _opened(f"http://s3.moved.test:{server.port}") as store:
            with pytest.raises(StoreUnavailable, match=r"s3\.moved\.test"):
                await store.put("key", b"x")
            where = "127.0.0.1"
            await anyio.sleep(0.3)
            await store.put("key", b"x")
        assert len(server.seen) == 1


# ── proxies ──────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(params=["http", "https"])
def scheme(request: pytest.FixtureRequest) -> str:
    """Of the server behind the proxy."""
    return str(request.param)


def _through(monkeypatch: pytest.MonkeyPatch, scheme: str, proxy: str) -> None:
    monkeypatch.setenv(f"{scheme}_proxy", proxy)
    monkeypatch.setenv("no_proxy", "")


@pytest.mark.parametrize("status", [403, 407, 502, None])
async def test_a_proxys_password_is_told(
    status: int | None,
    scheme: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """What a proxy says shows without the password by which it is asked."""
    caplog.set_level(logging.DEBUG)
    async with scripted() as proxy:
        proxy.otherwise = answer(status) if status else None
        _through(monkeypatch, scheme, f"http://user:hush@127.0.0.1:{proxy.port}")
        with pytest.raises(StoreError) as refused:
            await _put(f"{scheme}://s3.example.test")
    said = f"{refused.value} {refused.value!r} {caplog.text}"
    assert "hush" not in said
    assert status is None or str(status) in said


async def test_a_proxy_is_not_told_who_asks(scheme: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Name and password go to the proxy, decoded; its URL may be without a scheme."""
    async with scripted() as proxy:
        proxy.otherwise = answer(502)
        for named in ("http://us%20er:p%40ss%C3%A9@", "us%20er:p%40ss%C3%A9@"):
            _through(monkeypatch, scheme, f"{named}127.0.0.1:{proxy.port}")
            with pytest.raises(StoreUnavailable, match="502"):
                await _put(f"{scheme}://s3.example.test")
    basic = b64encode("us er:p@ssé".encode()).decode()
    assert [seen.headers["proxy-authorization"] for seen in proxy.seen] == [f"Basic {basic}"] * 2
    connect = {
        "http": ("PUT", "http://s3.example.test/bucket/key"),
        "https": ("CONNECT", "s3.example.test:443"),
    }
    assert {(seen.method, seen.target) for seen in proxy.seen} == {connect[scheme]}


@pytest.mark.parametrize("named", ["socks5://u:hush@h:1", "http://u:hush@h:port", "http://u:hush@"])
async def test_a_bad_proxy_is_a_defect_of_ours(
    named: str, scheme: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A proxy that can't be one is named by its variable, without what that holds."""
    _through(monkeypatch, scheme, named)
    with pytest.raises(StoreUnavailable, match=f"{scheme}_proxy") as refused:
        await _put(f"{scheme}://s3.example.test")
    assert "hush" not in str(refused.value)
    assert refused.value.hint


async def test_an_excepted_host_goes_through_the_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """What ``no_proxy`` names is reached without one."""
    async with scripted() as proxy, scripted() as server:
        _through(monkeypatch, "http", proxy.url)
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        await _put(server.url)
    assert len(server.seen) == 1 and not proxy.seen


# ── certificates ─────────────────────────────────────────────────────────────────────────────────


async def test_a_private_authority_is_not_trusted(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server's certificate is checked, against ``AWS_CA_BUNDLE`` where it is set."""
    async with scripted(scheme="https") as server:
        with pytest.raises(StoreUnavailable, match="certificate verify failed"):
            await _put(server.url)
        monkeypatch.setenv("AWS_CA_BUNDLE", str(CERTIFICATE))
        await _put(server.url)
    assert len(server.seen) == 1


async def test_a_server_without_tls_spoils_the_next() -> None:
    """That one server speaks no TLS says nothing of another's certificate."""
    transport = Transport(Traffic(TestClock()), "AWS_CA_BUNDLE")
    async with scripted() as plain, scripted(scheme="https") as secret:
        await _ask(transport, plain)
        with pytest.raises(StoreUnavailable, match="certificate verify failed"):
            await _ask(transport, secret)
    await transport.aclose()
    assert not secret.seen


async def _ask(transport: Transport, server: Scripted) -> None:
    async with transport.send(Request("GET", f"{server.url}/", {})):
        pass


@pytest.mark.parametrize("content", [None, "hello"])
async def test_a_bad_bundle_is_a_defect_of_ours(
    content: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A bundle that can't be read is trouble with its name and a remedy; mended, it is read again."""
    bundle = tmp_path / "bundle.pem"
    if content:
        bundle.write_text(content)
    monkeypatch.setenv("AWS_CA_BUNDLE", str(bundle))
    transport = Transport(Traffic(TestClock()), "AWS_CA_BUNDLE")
    async with scripted(scheme="https") as server:
        with pytest.raises(StoreUnavailable, match=r"bundle\.pem") as refused:
            await _ask(transport, server)
        assert refused.value.hint and "wherry daemon stop" in refused.value.hint
        bundle.write_bytes(CERTIFICATE.read_bytes())
        await _ask(transport, server)
    await transport.aclose()
