"""The way to a server, as the daemon's environment has it.

Owns: the proxy (``HTTPS_PROXY``, ``NO_PROXY`` and their like), and whose certificates are trusted. Does not
own: connections, which variable names a file of certificates. A proxy's password goes to the proxy, and into
no error.
"""

from __future__ import annotations

import os
import ssl
from base64 import b64encode
from collections.abc import Mapping
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import msgspec
from yarl import URL

from wherry.errors import StoreUnavailable

_HINT = "Correct it where the daemon is started from, and start it anew: wherry daemon stop."


class Route(msgspec.Struct, frozen=True):
    """How a server is reached."""

    trusted: ssl.SSLContext | bool = True  # True: a server that speaks no TLS
    proxy: URL | None = None  # without credentials
    headers: Mapping[str, str] = {}  # for a proxy that reads the request
    proxy_headers: Mapping[str, str] = {}  # for one that only passes it on


def find_route(url: str, bundle: str = "") -> Route:
    """Read the environment; blocks.

    Args:
        url: of the server.
        bundle: the variable that may name a file of certificates to trust instead of the machine's.

    Raises:
        StoreUnavailable: it names a proxy or a file of certificates that can't be used.
    """
    parts = urlsplit(url)
    trusted = _trusted(bundle) if parts.scheme == "https" else True
    named = None if proxy_bypass(parts.netloc) else getproxies().get(parts.scheme)
    if not named:
        return Route(trusted=trusted)
    proxy = _proxy(parts.scheme, named)
    headers, plain = _authorization(proxy), proxy.with_user(None)
    if parts.scheme == "https":
        return Route(trusted=trusted, proxy=plain, proxy_headers=headers)
    return Route(trusted=trusted, proxy=plain, headers=headers)


def _proxy(scheme: str, named: str) -> URL:
    try:
        proxy = URL(named if "://" in named else f"http://{named}")
    except ValueError:
        proxy = URL()
    if proxy.scheme not in ("http", "https") or not proxy.host:
        # not what it says: it may hold a password
        raise StoreUnavailable(f"{scheme}_proxy names no http or https proxy.", hint=_HINT)
    return proxy


def _authorization(proxy: URL) -> dict[str, str]:
    """RFC 7617; UTF-8, as proxies that take more than ASCII expect."""
    if proxy.user is None:
        return {}
    basic = b64encode(f"{proxy.user}:{proxy.password or ''}".encode()).decode()
    return {"Proxy-Authorization": f"Basic {basic}"}


def _trusted(bundle: str) -> ssl.SSLContext:
    file = os.environ.get(bundle) or None
    try:
        return ssl.create_default_context(cafile=file)
    except OSError as exc:  # SSLError is one
        why = exc.strerror or exc
        raise StoreUnavailable(f"{bundle}={file} can't be read: {why}.", hint=_HINT) from exc
