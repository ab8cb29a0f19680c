"""Addresses of stores: one spelling for one store (docs/promises.md, "Settings and places").

Owns: reading and normalizing a store's URI, and which parts of the environment are credentials for
it. Does not own: opening the store. Credentials are never part of an address.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import NamedTuple
from urllib.parse import parse_qsl, quote, unquote, urlsplit

from wherry.errors import BadURI

_FORMS = "Use file:///folder, s3://bucket/prefix?endpoint_url=…&region=… or gs://bucket/prefix"
_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{2,254}")
#: What can be a part of a host's name, as AWS's own tools have it.
_REGION = re.compile(r"(?!-)[A-Za-z0-9-]{1,63}(?<!-)")
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*):(?=//|/)")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_OPTIONS = {"s3": ("addressing", "commit", "endpoint_url", "region"), "gs": ("endpoint_url",)}
_SINGLE_WRITER = "single-writer"
_DEFAULT_PORTS = {"http": 80, "https": 443}
_CREDENTIALS = (
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AWS_PROFILE",
    "AWS_DEFAULT_PROFILE",
    "AWS_CONFIG_FILE",
    "AWS_SHARED_CREDENTIALS_FILE",
    "AWS_ROLE_ARN",
    "AWS_ROLE_SESSION_NAME",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_AUTHORIZATION_TOKEN",
    "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
    "AWS_REQUEST_PAYER",
)
_GOOGLES = ("GOOGLE_APPLICATION_CREDENTIALS", "CLOUDSDK_CONFIG")  # paths
_GOOGLE_PAYER = "GS_USER_PROJECT"


class StoreAddress(NamedTuple):
    """A normalized address, taken apart."""

    scheme: str  # "file", "s3" or "gs"
    bucket: str  # "" for a folder
    path: str  # of a folder: absolute; of a bucket: the prefix, without slashes at its ends
    options: dict[str, str]  # endpoint_url, region, addressing ("path" or "virtual"), commit


def normalize_store(uri: str | os.PathLike[str], environ: Mapping[str, str]) -> str:
    """Write a store's URI in the one form by which lanes, done-records and credentials are kept.

    Args:
        uri: ``file:///folder``, a plain path, ``s3://bucket/prefix`` with the options ``endpoint_url``,
            ``region``, ``addressing`` (``path`` or ``virtual``) and ``commit`` (``single-writer``), or
            ``gs://bucket/prefix`` with the option ``endpoint_url``.
        environ: where the URI names none, the endpoint is ``AWS_ENDPOINT_URL_S3``, else
            ``AWS_ENDPOINT_URL``, and the region ``AWS_REGION``, else ``AWS_DEFAULT_REGION``; of ``gs://`` the
            endpoint is ``STORAGE_EMULATOR_HOST``, as Google's own tools have it.

    Raises:
        BadURI: it can't be understood, or has credentials in it.
    """
    text = os.fspath(uri)
    if not text or _CONTROL.search(text):
        raise BadURI(f"The store {text!a} is no URI.", hint=_FORMS)
    scheme = _SCHEME.match(text)
    match scheme and scheme[1].lower():
        case None:
            return _folder(os.path.expanduser(text))
        case "file":
            return _folder(_file_path(text))
        case "s3":
            return _bucket("s3", text, _s3_options(_options("s3", text), environ))
        case "gs":
            return _bucket("gs", text, _gs_options(_options("gs", text), environ))
    raise BadURI(f"Wherry knows no store of the kind {_masked(text)}.", hint=_FORMS)


def split_store(address: str) -> StoreAddress:
    """Take an address that ``normalize_store`` made apart."""
    scheme, _, rest = address.partition("://")
    if scheme == "file":
        return StoreAddress(scheme, "", unquote(rest), {})
    place, _, query = rest.partition("?")
    bucket, _, prefix = place.partition("/")
    return StoreAddress(scheme, bucket, prefix, dict(parse_qsl(query)))


def has_single_writer(address: str) -> bool:
    """Whether the user promises that one home alone writes to the store (docs/stores.md)."""
    return split_store(address).options.get("commit") == _SINGLE_WRITER


def needs_credentials(address: str) -> bool:
    """Whether there are credentials for a store: a folder has none."""
    return not address.startswith("file:")


def credentials_from(environ: Mapping[str, str], server: str = "") -> dict[str, str]:
    """Pick the credentials, and the ways to them, that this process has in its environment.

    The daemon may have been started by another process, with other ones or none, and elsewhere: paths of
    Google's are made absolute.

    Args:
        server: whose; AWS's by default, Google's for ``gs://``.
    """
    if server.startswith("gs://"):
        return _googles(environ)
    return {name: environ[name] for name in _CREDENTIALS if environ.get(name)}


def _googles(environ: Mapping[str, str]) -> dict[str, str]:
    paths = {name: os.path.abspath(environ[name]) for name in _GOOGLES if environ.get(name)}
    payer = environ.get(_GOOGLE_PAYER)
    return {**paths, _GOOGLE_PAYER: payer} if payer else paths


def normalize_endpoint(url: str) -> str:
    """Write the URL of a server in one form.

    Raises:
        BadURI: it is no http or https URL, names no host that there can be, or has credentials in it.
    """
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
        host.encode("idna")  # as whoever looks it up does: no label is empty or has over 63 bytes
    except ValueError as exc:
        raise BadURI(f"The endpoint {_masked(url)} is no http or https URL.", hint=_FORMS) from exc
    if "@" in parts.netloc:
        raise BadURI(f"The endpoint {_masked(url)} has credentials in it.", hint=_FORMS)
    if parts.scheme not in _DEFAULT_PORTS or not host or parts.query or parts.fragment:
        raise BadURI(f"The endpoint {url} is no http or https URL.", hint=_FORMS)
    host = f"[{host}]" if ":" in host else host
    explicit = "" if port in (None, _DEFAULT_PORTS[parts.scheme]) else f":{port}"
    return f"{parts.scheme}://{host}{explicit}{parts.path.rstrip('/')}"


def _file_path(uri: str) -> str:
    rest = uri[len("file:") :]
    if rest.startswith("//"):
        host, slash, path = rest[2:].partition("/")
        if host not in ("", "localhost"):
            raise BadURI(f"The store {_masked(uri)} lies on another host.", hint=_FORMS)
        rest = slash + path
    if "?" in rest or "#" in rest:
        raise BadURI(f"The store {uri} has a query; a folder has none.", hint=_FORMS)
    return unquote(rest)


def _folder(path: str) -> str:
    if not path or "\0" in path:  # percent-encoded
        raise BadURI("The store's folder has no name.", hint=_FORMS)
    # `..` after a symbolic link leads elsewhere than the text says
    path = os.path.realpath(path) if ".." in path.split("/") else os.path.abspath(path)
    return "file://" + quote("/" + path.lstrip("/"), safe="/", errors="surrogateescape")


def _bucket(scheme: str, uri: str, options: Mapping[str, str]) -> str:
    place = uri.partition("://")[2].partition("?")[0]
    bucket, _, prefix = place.partition("/")
    if "@" in bucket:
        raise BadURI(
            f"The store {_masked(uri)} has credentials in it.", hint=_NO_CREDENTIALS[scheme]
        )
    if not _BUCKET.fullmatch(bucket):
        raise BadURI(f"{bucket!r} is no bucket's name.", hint=_FORMS)
    prefix = prefix.strip("/")
    if prefix and any(segment in ("", ".", "..") for segment in prefix.split("/")):
        raise BadURI(f"The prefix {prefix!r} has an empty, '.' or '..' segment.", hint=_FORMS)
    named = ((name, options[name]) for name in sorted(options) if options[name])
    written = "&".join(f"{name}={quote(value, safe=':/')}" for name, value in named)
    return f"{scheme}://{bucket}{prefix and '/' + prefix}{written and '?' + written}"


_NO_CREDENTIALS = {
    "s3": "Give them as AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or in ~/.aws/credentials.",
    "gs": "Give them as GOOGLE_APPLICATION_CREDENTIALS, or by gcloud auth application-default login.",
}


def _options(scheme: str, uri: str) -> dict[str, str]:
    given = parse_qsl(uri.partition("?")[2], keep_blank_values=True)
    for name, _ in given:
        if name not in _OPTIONS[scheme]:
            secret = re.search("key|secret|token|password|signature|credential", name.lower())
            known = f"Its options are {', '.join(_OPTIONS[scheme])}."
            raise BadURI(
                f"The store {_masked(uri)} has the option {name!r}.",
                hint=_NO_CREDENTIALS[scheme] if secret else known,
            )
    return {name: value for name, value in given if value}


def _s3_options(options: dict[str, str], environ: Mapping[str, str]) -> dict[str, str]:
    options.setdefault("endpoint_url", _endpoint_from(environ))
    options.setdefault("region", environ.get("AWS_REGION") or environ.get("AWS_DEFAULT_REGION", ""))
    if options["endpoint_url"]:
        options["endpoint_url"] = normalize_endpoint(options["endpoint_url"])
    if options["region"] and not _REGION.fullmatch(options["region"]):
        raise BadURI(f"{options['region']!r} is no region.", hint="As in region=eu-west-1.")
    if options.get("addressing", "path") not in ("path", "virtual"):
        raise BadURI(f"addressing={options['addressing']} is unknown.", hint="'path' or 'virtual'.")
    if options.get("commit", _SINGLE_WRITER) != _SINGLE_WRITER:
        raise BadURI(
            f"commit={options['commit']} is unknown.", hint=f"{_SINGLE_WRITER!r}, or none."
        )
    return options


def _gs_options(options: dict[str, str], environ: Mapping[str, str]) -> dict[str, str]:
    """Google's own tools take an emulator's host with a scheme or without."""
    emulator = environ.get("STORAGE_EMULATOR_HOST", "")
    if emulator and "://" not in emulator:
        emulator = f"http://{emulator}"
    endpoint = options.get("endpoint_url") or emulator
    return {"endpoint_url": normalize_endpoint(endpoint)} if endpoint else {}


def _endpoint_from(environ: Mapping[str, str]) -> str:
    if environ.get("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "").lower() == "true":
        return ""
    return environ.get("AWS_ENDPOINT_URL_S3") or environ.get("AWS_ENDPOINT_URL", "")


def _masked(uri: str) -> str:
    """The URI for a message: what stands before an @ and values of options may be secret."""
    return re.sub(r"//[^/@]*@", "//***@", re.sub(r"=[^&]*", "=***", uri))
