from __future__ import annotations

import array
import enum
import hashlib
import json
import math
import struct
from collections import OrderedDict
from types import MappingProxyType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wherry.errors import BadMetadata
from wherry.wire.canonical import (
    EntriesDigest,
    canonical,
    content_digest,
    entries_digest,
    plain_metadata,
)

_KEYS = st.text(max_size=6)


def _json(floats: st.SearchStrategy[float]) -> st.SearchStrategy[Any]:
    return st.recursive(
        st.none() | st.booleans() | st.integers() | floats | st.text(),
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_KEYS, inner, max_size=4),
    )


_JSON = _json(st.floats(allow_nan=False, allow_infinity=False))

# RFC 8785 appendix B: bits of a double and its text.
_NUMBERS = {
    "0000000000000000": "0",
    "8000000000000000": "0",
    "0000000000000001": "5e-324",
    "8000000000000001": "-5e-324",
    "7fefffffffffffff": "1.7976931348623157e+308",
    "ffefffffffffffff": "-1.7976931348623157e+308",
    "4340000000000000": "9007199254740992",
    "c340000000000000": "-9007199254740992",
    "4430000000000000": "295147905179352830000",
    "44b52d02c7e14af5": "9.999999999999997e+22",
    "44b52d02c7e14af6": "1e+23",
    "44b52d02c7e14af7": "1.0000000000000001e+23",
    "444b1ae4d6e2ef4e": "999999999999999700000",
    "444b1ae4d6e2ef4f": "999999999999999900000",
    "444b1ae4d6e2ef50": "1e+21",
    "3eb0c6f7a0b5ed8c": "9.999999999999997e-7",
    "3eb0c6f7a0b5ed8d": "0.000001",
    "41b3de4355555553": "333333333.3333332",
    "41b3de4355555554": "333333333.33333325",
    "41b3de4355555555": "333333333.3333333",
    "41b3de4355555556": "333333333.3333334",
    "41b3de4355555557": "333333333.33333343",
    "becbf647612f3696": "-0.0000033333333333333333",
    "43143ff3c1cb0959": "1424953923781206.2",
}


@pytest.mark.parametrize(("bits", "text"), _NUMBERS.items())
def test_number_is_not_ecmascripts(bits: str, text: str) -> None:
    """Floats are written as RFC 8785's appendix B has them."""
    (value,) = struct.unpack(">d", bytes.fromhex(bits))
    assert canonical(value) == text.encode()


def test_object_is_not_the_rfcs() -> None:
    """The example of RFC 8785 section 3.2.2."""
    value = {
        "numbers": [333333333.33333329, 1e30, 4.50, 2e-3, 0.000000000000000000000000001],
        "string": "\u20ac$\u000f\u000aA'\u0042\u0022\u005c\\\"/",
        "literals": [None, True, False],
    }
    expected = (
        '{"literals":[null,true,false],'
        '"numbers":[333333333.3333333,1e+30,4.5,0.002,1e-27],'
        '"string":"€$\\u000f\\nA\'B\\"\\\\\\\\\\"/"}'
    )
    assert canonical(value).decode() == expected


def test_keys_are_sorted_by_code_points() -> None:
    """The example of RFC 8785 section 3.2.3: keys stand in the order of their UTF-16 code units."""
    names = ["\u20ac", "\r", "\ufb33", "1", "\U0001f600", "\u0080", "\u00f6"]
    ordered = ["\r", "1", "\u0080", "\u00f6", "\u20ac", "\U0001f600", "\ufb33"]
    assert list(json.loads(canonical(dict.fromkeys(names)))) == ordered


def test_large_integer_is_rounded() -> None:
    """Integers of any size are written in full, unlike the RFC's."""
    assert canonical(2**53 + 1) == b"9007199254740993"
    assert canonical(-(10**30)) == b"-1" + b"0" * 30


@given(_JSON)
def test_writing_twice_differs(value: Any) -> None:
    """Reading what was written and writing it again gives the same bytes."""
    written = canonical(value)
    assert canonical(json.loads(written)) == written


@given(_json(st.floats(-(2.0**53), 2.0**53)))
def test_value_changes_in_writing(value: Any) -> None:
    """What is written reads as an equal value; floats beyond 2**53 as the integer of their digits."""
    assert json.loads(canonical(value)) == value


@given(st.dictionaries(_KEYS, _JSON), st.randoms())
def test_order_of_keys_counts(value: dict[str, Any], random: Any) -> None:
    """The order in which a dict was made has no effect."""
    items = list(value.items())
    random.shuffle(items)
    assert canonical(dict(items)) == canonical(value)


@pytest.mark.parametrize(
    "value", [math.nan, math.inf, b"", {1: 2}, {"a": set()}, "\ud800", object()]
)
def test_what_is_no_json_is_written(value: object) -> None:
    """What JSON does not have raises."""
    with pytest.raises(BadMetadata):
        canonical(value)


_FILE = ("a/é.txt", "sha256:00", 7, None, None)
_REFERENCE = ("b", "etag:1", None, "s3://b/k", "x1")


def test_entries_digest_differs_from_the_design() -> None:
    """One canonical array and a line feed for each entry, hashed with SHA-256."""
    plain = '["a/é.txt","sha256:00",7,null,null]\n["b","etag:1",null,"s3://b/k","x1"]\n'
    expected = f"sha256:{hashlib.sha256(plain.encode()).hexdigest()}"
    assert entries_digest([_FILE, _REFERENCE]) == expected
    one_by_one = EntriesDigest()
    one_by_one.add(*_FILE)
    one_by_one.add(*_REFERENCE)
    assert one_by_one.value() == expected


@given(st.sets(st.text(min_size=1), max_size=6), st.integers(0, 2**63))
def test_entries_digest_is_not_of_canonical_json(paths: set[str], size: int) -> None:
    """Each line is exactly what ``canonical`` writes."""
    entries = [(path, path, size, None, path) for path in sorted(paths, key=str.encode)]
    plain = b"".join(canonical(list(entry)) + b"\n" for entry in entries)
    assert entries_digest(entries) == f"sha256:{hashlib.sha256(plain).hexdigest()}"


@pytest.mark.parametrize("paths", [("b", "a"), ("a", "a"), ("\U0001f600", "\ufb33")])
def test_disorder_is_hashed(paths: tuple[str, str]) -> None:
    """Paths that do not ascend by their UTF-8 bytes raise."""
    with pytest.raises(ValueError, match="comes after"):
        entries_digest([(path, None, 0, None, None) for path in paths])


def test_content_digest_differs_from_the_design() -> None:
    """The SHA-256 of the canonical form of digest, type, description and metadata."""
    plain = '["sha256:00","model",null,{"a":1,"b":"é"}]'
    expected = f"sha256:{hashlib.sha256(plain.encode()).hexdigest()}"
    assert content_digest("sha256:00", "model", None, {"b": "é", "a": 1.0}) == expected
    assert content_digest("sha256:00", "model", "", {"b": "é", "a": 1}) != expected


# ── metadata ───────────────────────────────────────────────────────────────────────────────────


class _Scalar:
    """Looks like a numpy scalar."""

    def __init__(self, value: object) -> None:
        self._value = value

    def tolist(self) -> object:
        return self._value


class _Float(float):
    def __repr__(self) -> str:
        return f"np.float64({float(self)})"


class _Color(enum.IntEnum):
    RED = 1


def test_metadata_is_not_plain() -> None:
    """Arrays and scalars become lists and numbers, keys strings, NaN and infinities words."""
    given = {
        "scalar": _Scalar(1.5),
        "array": array.array("d", [1.0, math.nan]),
        "of arrays": (_Scalar([1, 2]), [_Scalar(math.inf), -math.inf]),
        "float": _Float(0.5),
        "enum": _Color.RED,
        "mapping": MappingProxyType({"a": OrderedDict(b=None)}),
        1: True,
        2.5: False,
        None: "",
        _Scalar(7): "scalar key",
    }
    plain = plain_metadata(given)
    assert plain == {
        "scalar": 1.5,
        "array": [1.0, "NaN"],
        "of arrays": [[1, 2], ["Infinity", "-Infinity"]],
        "float": 0.5,
        "enum": 1,
        "mapping": {"a": {"b": None}},
        "1": True,
        "2.5": False,
        "null": "",
        "7": "scalar key",
    }
    assert type(plain["float"]) is float
    assert type(plain["enum"]) is int


@given(st.dictionaries(_KEYS, _JSON, max_size=4))
def test_plain_metadata_changes(value: dict[str, Any]) -> None:
    """JSON data stays as it is, and a second time changes nothing."""
    assert plain_metadata(value) == value
    assert canonical(plain_metadata(plain_metadata(value))) == canonical(value)


def test_no_metadata_is_an_error() -> None:
    """None means {}."""
    assert plain_metadata(None) == {}


def _cycle() -> dict[str, object]:
    value: dict[str, object] = {}
    value["again"] = [value]
    return value


class _Endless(_Scalar):
    def tolist(self) -> object:
        return self


class _HugeArray(_Scalar):
    size = 10**12


class _HugeTensor(_Scalar):
    def size(self) -> tuple[int, ...]:
        return (10**6, 10**6)

    def numel(self) -> int:
        return 10**12

    def tolist(self) -> object:
        raise AssertionError("it was listed")


@pytest.mark.parametrize(
    ("value", "named"),
    [
        ([1], "a list, not a dict"),
        ("text", "a str, not a dict"),
        ({"a": {"b": [1, b"x"]}}, "metadata['a']['b'][1] is a bytes"),
        ({"a": {1, 2}}, "metadata['a'] is a set"),
        ({"a": object}, "metadata['a'] is a type"),
        ({"a": _Scalar}, "metadata['a'] is a type"),
        ({(1, 2): 3}, "metadata has a key that is a tuple"),
        ({"a": {b"k": 3}}, "a key of metadata['a'] is a bytes"),
        ({1: 2, "1": 3}, "two keys that become '1'"),
        ({"a": "\ud800"}, "metadata['a'] is not valid Unicode"),
        ({"a": 1 << 20_000}, "metadata['a'] is an integer of 20,001 bits"),
        ({"a": _Endless(0)}, "metadata['a']"),
        ({"a": _HugeArray([])}, "1,000,000,000,000 elements"),
        ({"a": _HugeTensor([])}, "1,000,000,000,000 elements"),
        ({"\udc80": 1}, "a key of metadata is not valid Unicode"),
        ({"a": "x" * (1 << 20)}, "1 MiB is the most"),
        (_cycle(), "contains itself"),
    ],
)
def test_bad_metadata_is_taken(value: object, named: str) -> None:
    """What is no JSON raises, and the message says where it is."""
    with pytest.raises(BadMetadata) as caught:
        plain_metadata(value)
    assert named in str(caught.value)


def test_metadata_of_one_mebibyte_is_refused() -> None:
    """1 MiB of JSON is still taken."""
    text = "x" * ((1 << 20) - len('{"a":""}'))
    assert plain_metadata({"a": text}) == {"a": text}
