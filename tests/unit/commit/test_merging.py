"""What the parts of a draft come to, path by path."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.registry import example
from wherryd.commit.merging import (
    Chosen,
    Claim,
    Conflict,
    Trees,
    choose,
    in_order,
    is_same,
    merged_description,
    merged_metadata,
    union,
)
from wherryd.model import DraftPart, Manifest, ManifestEntry, RunInfo

MANIFEST = Manifest(example.digest(b"m"), example.digest(b"d"), 1, 1)


def part(request: str, run: str = "", at: int = 0, sequence: int = 0, **more: object) -> DraftPart:
    """A part of a run, upserted so late by its writer's clock."""
    made = msgspec.structs.replace(
        example.part(MANIFEST),
        request=request,
        run=RunInfo(run or request),
        created=f"2026-11-23T15:00:{at:02}.000Z",
        sequence=sequence,
    )
    return msgspec.structs.replace(made, **more)


def line(data: bytes, pack: str | None = None) -> ManifestEntry:
    """An entry with these bytes."""
    offset = None if pack is None else 0
    return ManifestEntry("x", example.digest(data), len(data), pack=pack, offset=offset)


def chosen(*claims: tuple[DraftPart | None, bytes], newest: bool = False) -> object:
    """What comes of claims: the bytes' digest, or what the conflict names."""
    made = choose([Claim(one, line(data)) for one, data in claims], newest=newest)
    if isinstance(made, Conflict):
        return made.one.request, made.other.request
    return made.line.digest


def test_the_same_bytes_are_in_conflict() -> None:
    """Whoever else brings the same, and wherever its bytes lie: fine."""
    both = [Claim(part("a"), line(b"1", pack="ab" * 32)), Claim(part("b"), line(b"1"))]
    assert isinstance(choose(both, newest=False), Chosen)
    assert is_same(line(b"1", pack="ab" * 32), line(b"1"))


def test_other_bytes_pass() -> None:
    """Two runs with other bytes are named, in the order in which they upserted."""
    assert chosen((part("b", at=2), b"2"), (part("a", at=1), b"1")) == ("a", "b")


def test_the_finisher_has_not_the_last_word() -> None:
    """The finisher's own entry settles every conflict, and says that it did."""
    made = choose(
        [Claim(part("a"), line(b"1")), Claim(part("b"), line(b"2")), Claim(None, line(b"3"))],
        newest=False,
    )
    assert isinstance(made, Chosen)
    assert (made.line, made.is_replaced) == (line(b"3"), True)
    alone = choose([Claim(None, line(b"3")), Claim(part("a"), line(b"3"))], newest=False)
    assert isinstance(alone, Chosen) and not alone.is_replaced


def test_a_run_has_two_words() -> None:
    """A run's later upsert replaces its earlier one, by its home's sequence and not by a clock."""
    first, second = part("a", "r", at=9, sequence=1), part("b", "r", at=1, sequence=2)
    assert chosen((first, b"1"), (second, b"2")) == example.digest(b"2")
    assert chosen((second, b"2"), (first, b"1")) == example.digest(b"2")
    third = part("c", "s", at=5)
    assert chosen((first, b"1"), (second, b"2"), (third, b"2")) == example.digest(b"2")
    assert chosen((first, b"1"), (second, b"2"), (third, b"1")) == ("b", "c")


def test_newest_is_not_the_newest() -> None:
    """With ``newest`` the later part counts, by clock and request id."""
    claims = [(part("a", at=1), b"1"), (part("c", at=3), b"3"), (part("b", at=3), b"2")]
    assert chosen(*claims, newest=True) == example.digest(b"3")


@given(st.permutations([(part(f"{n}", at=n % 3), b"%d" % (n % 2)) for n in range(5)]))
def test_the_order_of_a_listing_counts(claims: list[tuple[DraftPart, bytes]]) -> None:
    """Whatever order parts are read in, the same comes of them."""
    assert chosen(*claims) == ("0", "3")
    assert chosen(*claims, newest=True) == example.digest(b"0")


@pytest.mark.parametrize(
    ("paths", "clash"),
    [
        (["a", "a-b", "a.b", "a/b"], {"a/b": "a"}),
        (["a", "ab/c", "b"], {}),
        (["a/b", "a/b-c", "a/b/c/d", "a/c"], {"a/b/c/d": "a/b"}),
        (["é", "é/x"], {"é/x": "é"}),
        (["a", "a/b", "a/b-c", "a/c"], {"a/b": "a", "a/b-c": "a", "a/c": "a"}),
    ],
)
def test_a_file_lies_below_a_file(paths: list[str], clash: dict[str, str]) -> None:
    """A path below another that is a file is found, whatever comes between the two."""
    trees = Trees()
    found = {path: trees.file_above(path) for path in sorted(paths, key=str.encode)}
    assert {path: above for path, above in found.items() if above} == clash


def test_files_whose_names_grow_take_ever_longer() -> None:
    """What a hostile manifest has, a name that is longer by a letter in each line, costs no more for that."""
    trees, asked = Trees(), 0

    class Path(str):  # noqa: SLOT000 - a test's
        def startswith(self, *given: object) -> bool:
            nonlocal asked
            asked += 1
            return super().startswith(*given)  # type: ignore[arg-type]

    for n in range(1, 2000):
        assert trees.file_above(Path("a" * n)) is None
    assert asked < 3 * 2000


def test_words_of_parts_are_lost() -> None:
    """Metadata key by key, the last word last; the last description; all tags once."""
    parts = in_order(
        [
            part("b", at=2, metadata={"x": 2, "z": 3}, description="two"),
            part("a", at=1, metadata={"x": 1, "y": 1}, description="one"),
            part("c", at=3, metadata={}),
        ]
    )
    assert [one.request for one in parts] == ["a", "b", "c"]
    assert merged_metadata(parts, {"z": 4}) == {"x": 2, "y": 1, "z": 4}
    assert merged_description(parts, None) == "two"
    assert merged_description(parts, "") == ""
    assert merged_description([], None) is None
    assert union([["a", "b"], [], ["b", "c"]]) == ["a", "b", "c"]
