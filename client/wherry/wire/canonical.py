"""JSON in the one form that is hashed (RFC 8785), and the two digests made from it.

Owns: canonical JSON, ``digest`` and ``content`` of a version (docs/store-format.md, "Digests"), and
what users' metadata becomes. Does not own: manifests and records (the registry).

One deviation from RFC 8785: integers of any size are written in full decimal digits, where the RFC
would round those beyond 2**53 to a double. A float is written as ECMAScript writes it, so 1.0 gives
``1`` and equals the integer, and reading what was written and writing it again gives the same bytes.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterable, Mapping
from json.encoder import encode_basestring as _quote
from typing import SupportsFloat, TypeAlias

from wherry.errors import BadMetadata

Json: TypeAlias = "bool | int | float | str | list[Json] | dict[str, Json] | None"

MAX_METADATA_BYTES = 1 << 20
_write_metadata = json.JSONEncoder(
    ensure_ascii=False, allow_nan=False, check_circular=False, separators=(",", ":")
).encode
MAX_METADATA_DEPTH = 100
_HINT = "Metadata holds JSON: dicts, lists, strings, numbers, booleans and None."


def canonical(value: object) -> bytes:
    """Write JSON data in RFC 8785's form: no blanks, keys by UTF-16 code units, ECMAScript numbers.

    Args:
        value: dicts with string keys, lists, tuples, strings, numbers, booleans, None.

    Raises:
        BadMetadata: anything else, NaN, an infinity, or a string that is not valid Unicode.
    """
    try:
        return _written(value).encode()
    except UnicodeEncodeError as error:
        raise BadMetadata("A string is not valid Unicode.", hint=_HINT) from error


class EntriesDigest:
    """Makes ``artifact.digest`` while entries pass by, in order of their paths' UTF-8 bytes."""

    def __init__(self) -> None:
        self._hash = hashlib.sha256()
        self._last = ""

    def add(
        self, path: str, digest: str | None, size: int | None, ref: str | None, version: str | None
    ) -> None:
        """Count one entry in; ``ref`` and ``version`` are None for bytes in the store.

        Raises:
            ValueError: the path does not come after the one before it.
        """
        if path <= self._last:  # code points stand in the order of their UTF-8 bytes
            raise ValueError(f"entry {path!r} comes after {self._last!r}")
        self._last = path
        size_text = "null" if size is None else str(size)
        parts = (_quote(path), _text(digest), size_text, _text(ref), _text(version))
        self._hash.update(f"[{','.join(parts)}]\n".encode())

    def value(self) -> str:
        """Return ``sha256:<hex>`` of the entries so far."""
        return f"sha256:{self._hash.hexdigest()}"


def entries_digest(
    entries: Iterable[tuple[str, str | None, int | None, str | None, str | None]],
) -> str:
    """Make ``artifact.digest``: SHA-256 over one canonical array and a line feed for each entry.

    Args:
        entries: (path, digest, size in bytes, ref, version), ascending by the paths' UTF-8 bytes.

    Raises:
        ValueError: two paths are equal or out of order.
    """
    digest = EntriesDigest()
    for entry in entries:
        digest.add(*entry)
    return digest.value()


def content_digest(
    digest: str,
    type: str,  # noqa: A002 (the field's name in the record)
    description: str | None,
    metadata: Mapping[str, object],
) -> str:
    """Make ``content``, by which versions are compared.

    Args:
        digest: of the entries, from ``entries_digest``.
        type: the artifact's.
        description: as logged.
        metadata: as logged; JSON data.
    """
    body = canonical([digest, type, description, dict(metadata)])
    return f"sha256:{hashlib.sha256(body).hexdigest()}"


def draft_id(project: str, name: str, distributed_id: str) -> str:
    """Make a draft's id, ``<hex>``: SHA-256 of the RFC 8785 form of the three."""
    return hashlib.sha256(canonical([project, name, distributed_id])).hexdigest()


def plain_metadata(value: object) -> dict[str, Json]:
    """Turn a user's metadata into JSON data.

    Whatever has ``tolist()`` (numpy and torch arrays and scalars) becomes numbers and lists, keys
    become strings as RFC 8785 writes them (1.0 becomes "1"), NaN and the infinities become "NaN",
    "Infinity" and "-Infinity". None becomes {}.

    Raises:
        BadMetadata: anything else is in it, it contains itself, two keys become the same string, or
            its JSON has over 1 MiB. The message names the place: ``metadata['a'][0]``.
    """
    if value is None:
        return {}
    plain = _plain(value, "metadata", 0)
    if not isinstance(plain, dict):
        raise BadMetadata(f"The metadata is a {type(value).__name__}, not a dict.", hint=_HINT)
    size_bytes = len(metadata_bytes(plain))
    if size_bytes > MAX_METADATA_BYTES:
        raise BadMetadata(
            f"The metadata has {size_bytes:,} bytes as JSON; 1 MiB is the most.",
            hint="Put large values into a file and add that to the artifact.",
        )
    return plain


def metadata_bytes(plain: Mapping[str, Json]) -> bytes:
    """Write what ``plain_metadata`` gave as it is sent and kept: 1.0 stays a float, keys in their order.

    ``canonical`` is for hashing, where 1.0 and 1 are one number.
    """
    return _write_metadata(plain).encode()


def _written(value: object) -> str:
    if isinstance(value, str):
        return _quote(value)
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return int.__repr__(value)
    if isinstance(value, float):
        return _number(value)
    if isinstance(value, (list, tuple)):
        return f"[{','.join([_written(item) for item in value])}]"
    if isinstance(value, dict):
        keys = sorted(value, key=_utf16)
        return f"{{{','.join([f'{_quote(key)}:{_written(value[key])}' for key in keys])}}}"
    raise BadMetadata(f"A {type(value).__name__} is no JSON.", hint=_HINT)


def _utf16(key: object) -> bytes:
    if not isinstance(key, str):
        raise BadMetadata(f"A key is a {type(key).__name__}, not a string.", hint=_HINT)
    return key.encode("utf-16-be")


def _number(value: float) -> str:
    """Number::toString of ECMAScript (RFC 8785 section 3.2.2.3); Python's repr has its digits."""
    if not math.isfinite(value):
        raise BadMetadata(f"{value} is no JSON number.", hint=_HINT)
    sign = "-" if value < 0 else ""
    mantissa, _, exponent = float.__repr__(abs(value)).partition("e")
    whole, _, fraction = mantissa.partition(".")
    if fraction == "0":
        fraction = ""
    digits = (whole + fraction).lstrip("0")
    point = len(digits) - len(fraction) + int(exponent or 0)  # digits before the decimal point
    digits = digits.rstrip("0")
    return sign + _placed(digits, point) if digits else "0"


def _placed(digits: str, point: int) -> str:
    if len(digits) <= point <= 21:
        return digits + "0" * (point - len(digits))
    if 0 < point <= 21:
        return f"{digits[:point]}.{digits[point:]}"
    if -6 < point <= 0:
        return f"0.{'0' * -point}{digits}"
    fraction = f".{digits[1:]}" if digits[1:] else ""
    return f"{digits[0]}{fraction}e{point - 1:+d}"


def _text(value: str | None) -> str:
    return "null" if value is None else _quote(value)


def _plain(value: object, where: str, depth: int) -> Json:
    if depth > MAX_METADATA_DEPTH:
        raise BadMetadata(
            f"{where[:60]}… is nested over {MAX_METADATA_DEPTH} levels deep, or contains itself.",
            hint=_HINT,
        )
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return _plain_text(value, where)
    if isinstance(value, int):
        return _plain_int(value, where)
    if isinstance(value, float):
        return _plain_float(float(value))
    if isinstance(value, Mapping):
        return _plain_mapping(value, where, depth)
    if isinstance(value, (list, tuple)):
        return [_plain(item, f"{where}[{at}]", depth + 1) for at, item in enumerate(value)]
    return _plain(_listed(value, where), where, depth + 1)


def _plain_text(value: str, where: str) -> str:
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise BadMetadata(f"{where} is not valid Unicode: {value!a}.", hint=_HINT) from error
    return str.__str__(value)


def _plain_int(value: int, where: str) -> int:
    if value.bit_length() > 10_000:  # Python refuses to write or read over 4,300 digits
        raise BadMetadata(f"{where} is an integer of {value.bit_length():,} bits.", hint=_HINT)
    return int(value)


def _plain_float(value: float) -> float | str:
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "Infinity" if value > 0 else "-Infinity"
    return value


def _plain_mapping(value: Mapping[object, object], where: str, depth: int) -> Json:
    plain: dict[str, Json] = {}
    for key, item in value.items():
        text = _plain_key(key, where)
        if text in plain:
            raise BadMetadata(f"{where} has two keys that become {text!r}.", hint=_HINT)
        plain[text] = _plain(item, f"{where}[{text!r}]", depth + 1)
    return plain


def _plain_key(key: object, where: str) -> str:
    if isinstance(key, str):
        return _plain_text(key, f"a key of {where}")
    plain = _plain(key, f"a key of {where}", 0)
    if isinstance(plain, (list, dict)):
        raise BadMetadata(f"{where} has a key that is a {type(key).__name__}.", hint=_HINT)
    return plain if isinstance(plain, str) else canonical(plain).decode()


def _listed(value: object, where: str) -> object:
    """What an array or scalar of numpy, torch, jax or pandas holds, without importing any."""
    tolist = getattr(value, "tolist", None)
    if callable(tolist) and not isinstance(value, type):
        size = _count(value)
        if size > MAX_METADATA_BYTES:
            raise BadMetadata(f"{where} has {size:,} elements.", hint="Save it to a file instead.")
        listed = tolist()
        # numpy's longdouble stays one, having no Python type of its precision.
        same = type(listed) is type(value)
        return float(listed) if same and isinstance(listed, SupportsFloat) else listed
    raise BadMetadata(f"{where} is a {type(value).__name__}, which is no JSON.", hint=_HINT)


def _count(value: object) -> int:
    """How many elements an array has: numpy has a ``size``; torch's is a method, and it has ``numel``."""
    size = getattr(value, "size", 0)
    numel = getattr(value, "numel", None)
    if not isinstance(size, int) and callable(numel):
        size = numel()
    return size if isinstance(size, int) else 0
