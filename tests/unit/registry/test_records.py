from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.registry import example
from wherry.errors import StoreDamaged, StoreError
from wherryd.model import Alias, Manifest, RunInfo, Tombstone, VersionRecord
from wherryd.registry import records
from wherryd.registry.base import Identity
from wherryd.registry.records import ArtifactClaim

DIGESTS = st.binary(max_size=4).map(example.digest)
TEXT = st.text(st.characters(exclude_categories=["Cs"]))
NUMBERS = st.integers(0, 2**63)
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.just(2**9_999)
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
)
RUNS = st.builds(
    RunInfo,
    id=TEXT,
    name=st.none() | TEXT,
    group=st.none() | TEXT,
    job_type=st.none() | TEXT,
    entity=st.just(msgspec.UNSET) | st.none() | TEXT,
)
RECORDS = st.builds(
    VersionRecord,
    format=st.just(1),
    version=NUMBERS,
    request=TEXT.filter(bool),
    type=TEXT,
    description=st.none() | TEXT,
    metadata=st.dictionaries(TEXT, JSON, max_size=3),
    entries=NUMBERS,
    size=NUMBERS,
    manifest=DIGESTS,
    digest=DIGESTS,
    content=DIGESTS,
    run=RUNS,
    inputs=st.lists(TEXT, max_size=2),
    aliases=st.lists(TEXT, max_size=2),
    created=TEXT,
    client=TEXT,
    tags=st.lists(TEXT, max_size=2),
)
RECORD = example.record(
    Manifest(manifest=example.digest(b"m"), digest=example.digest(b"d"), entries=1, size=1)
)


@given(RECORDS)
def test_a_record_comes_back_as_it_was(record: VersionRecord) -> None:
    """Whatever was logged is read as it was logged, and the same record gives the same bytes."""
    body = records.encode(record)
    again = records.decode_version("key", body)
    assert again == record
    assert records.encode(again) == body


@given(RECORDS)
def test_a_record_is_one_line(record: VersionRecord) -> None:
    """A record is one line with a line feed at its end, and plain JSON."""
    body = records.encode(record)
    assert body.index(b"\n") == len(body) - 1
    assert json.loads(body)["request"] == record.request


def test_fields_stand_in_the_designs_order() -> None:
    """A record reads as docs/store-format.md shows it; tags are there only when there are some."""
    order = [
        "format",
        "version",
        "request",
        "type",
        "description",
        "metadata",
        "entries",
        "size",
        "manifest",
        "digest",
        "content",
        "run",
        "inputs",
        "aliases",
        "created",
        "client",
    ]
    assert list(json.loads(records.encode(RECORD))) == order
    tagged = msgspec.structs.replace(RECORD, tags=["a"])
    assert list(json.loads(records.encode(tagged))) == [*order, "tags"]


def test_an_entity_that_was_not_given_is_written() -> None:
    """A run's entity stands in the record where one was given; records without it are read as ever."""
    assert "entity" not in json.loads(records.encode(RECORD))["run"]
    run = msgspec.structs.replace(RECORD.run, entity="acme")
    body = records.encode(msgspec.structs.replace(RECORD, run=run))
    assert list(json.loads(body)["run"]) == ["id", "name", "group", "job_type", "entity"]
    again = records.decode_version("key", body)
    assert isinstance(again, VersionRecord) and again.run.entity == "acme"


def test_a_tombstone_is_told_from_a_record() -> None:
    """What has `deleted` is a tombstone."""
    body = records.encode(example.TOMBSTONE)
    assert records.decode_version("key", body) == example.TOMBSTONE
    assert isinstance(records.decode_version("key", records.encode(RECORD)), VersionRecord)


SMALL: list[tuple[Any, Any]] = [
    (Identity(1, "x"), records.decode_identity),
    (ArtifactClaim(1, "p", "n", "t"), records.decode_claim),
    (RECORD, records.decode_version),
    (example.TOMBSTONE, records.decode_version),
    (example.EDIT, records.decode_edit),
    (example.ALIAS, records.decode_alias),
    (Alias(1, "gone", None, 4, "w"), records.decode_alias),
]
CASES = pytest.mark.parametrize(("value", "decode"), SMALL, ids=lambda it: type(it).__name__)


def changed(value: Any, **fields: object) -> bytes:
    """Write a value with some fields set to something else."""
    return json.dumps({**json.loads(records.encode(value)), **fields}).encode()


@CASES
def test_fields_of_later_versions_are_passed_over(value: Any, decode: Any) -> None:
    """Format 1 may gain fields that this version does not know."""
    assert decode("key", changed(value, later={"a": [1]})) == value


@CASES
@pytest.mark.parametrize("more", [{}, {"deleted": True}, {"version": "7a", "type": 1, "store": 2}])
def test_another_format_asks_for_a_newer_wherry(
    value: Any, decode: Any, more: dict[str, object]
) -> None:
    """A newer format is named as such, whatever else it changed."""
    with pytest.raises(StoreError, match="newer Wherry") as caught:
        decode("some/key.json", changed(value, format=2, **more))
    assert not isinstance(caught.value, StoreDamaged)
    assert "some/key.json" in str(caught.value)


@CASES
@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\n",
        b"null",
        b"[]",
        b"{}",
        b'{"format":1}',
        b'{"format":0}',
        b'{"format":true}',
        b'{"format":1.5}',
        b'{"format":1',
        b'{"format":1,"store":"\xff"}',
        b'{"format":1,"deleted":7}',
        b'{"format":' + b"[" * 100_000,
        b"\x00" * 100,
    ],
)
def test_bytes_that_are_no_record_are_damage(value: Any, decode: Any, body: bytes) -> None:
    """A damaged object is named by its key, and no other error comes out."""
    with pytest.raises(StoreDamaged, match=r"some/key\.json"):
        decode("some/key.json", body)


def test_metadata_that_is_too_deep_is_damage() -> None:
    """A record that was made to exhaust the reader's stack is refused."""
    deep = records.encode(RECORD).replace(b'{"step":7}', b'{"a":' * 100_000 + b"1" + b"}" * 100_000)
    with pytest.raises(StoreDamaged):
        records.decode_version("key", deep)


@CASES
def test_a_cut_object_is_damage(value: Any, decode: Any) -> None:
    """No beginning of an object passes for the whole."""
    body = records.encode(value).rstrip()
    for end in range(len(body)):
        with pytest.raises(StoreDamaged):
            decode("key", body[:end])


@pytest.mark.parametrize(
    "fields",
    [
        {"version": -1},
        {"request": ""},
        {"entries": -1},
        {"size": -1},
        {"size": "1"},
        {"manifest": "sha256:../../x"},
        {"digest": "md5:00"},
        {"content": None},
        {"metadata": []},
        {"run": None},
    ],
)
def test_a_record_that_can_not_be_is_damage(fields: dict[str, object]) -> None:
    """What a reader would act on is checked when it is read."""
    with pytest.raises(StoreDamaged):
        records.decode_version("key", changed(RECORD, **fields))


@pytest.mark.parametrize(
    "fields", [{"version": -1}, {"highest": -1}, {"version": 2}, {"version": True}, {"alias": None}]
)
def test_an_alias_that_can_not_be_is_damage(fields: dict[str, object]) -> None:
    """An alias points nowhere, or between 0 and its highest."""
    with pytest.raises(StoreDamaged):
        records.decode_alias("key", changed(example.ALIAS, **fields))


@given(st.builds(Alias, st.just(1), TEXT, st.none() | st.just(0), NUMBERS, TEXT))
def test_an_alias_comes_back_as_it_was(alias: Alias) -> None:
    """Aliases of any name round-trip."""
    assert records.decode_alias("key", records.encode(alias)) == alias


@given(st.builds(Tombstone, st.just(1), NUMBERS, TEXT.filter(bool), DIGESTS, DIGESTS, TEXT))
def test_a_tombstone_comes_back_as_it_was(tombstone: Tombstone) -> None:
    """Tombstones round-trip."""
    assert records.decode_version("key", records.encode(tombstone)) == tombstone
