from __future__ import annotations

import urllib.parse

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wherry import errors
from wherry.wire.names import (
    check_alias,
    check_name,
    check_path,
    decode_segment,
    encode_segment,
    is_version,
    parse_artifact_ref,
)

_TEXT = st.text(min_size=1, max_size=128)


@pytest.mark.parametrize(
    "name", ["a", "x" * 128, "model-7.pt", "…", "日本語の名前", "a b", "%41", "...", "v3", "latest"]
)
def test_good_name_is_refused(name: str) -> None:
    """1 to 128 characters, of nearly any kind, are a name."""
    assert check_name("artifact", name) is name


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("", "is empty"),
        ("x" * 129, "129 characters"),
        ("a/b", "contains '/'"),
        ("a:b", "contains ':'"),
        ("a\nb", r"contains '\n'"),
        ("a\x7f", r"contains '\x7f'"),
        ("a\x85", r"contains '\x85'"),
        (".", "means a folder"),
        ("..", "means a folder"),
        ("\ud800", "not valid Unicode"),
        ("é" * 41, "246 bytes"),
    ],
)
def test_bad_name_is_taken(name: str, why: str) -> None:
    """What is no name is refused, with the kind and the reason."""
    with pytest.raises(errors.BadName) as caught:
        check_name("project", name)
    assert "project" in str(caught.value)
    assert why in str(caught.value)
    str(caught.value).encode()


@pytest.mark.parametrize("value", [None, 7, b"a"])
def test_name_of_another_type_is_taken(value: object) -> None:
    """A name is a string."""
    with pytest.raises(errors.BadName):
        check_name("artifact", value)  # type: ignore[arg-type]


@pytest.mark.parametrize("alias", ["v0", "v3", "v00", "v123456"])
def test_alias_shadows_a_version(alias: str) -> None:
    """`v<digits>` is always the version of that number, never an alias."""
    assert is_version(alias)
    with pytest.raises(errors.BadName, match="version number"):
        check_alias(alias)


@pytest.mark.parametrize("alias", ["best", "v", "v1.2", "V3", "v-1", "latest", "v³", "v٣"])
def test_plain_alias_is_refused(alias: str) -> None:
    """What only resembles a version number is an alias."""
    assert check_alias(alias) == alias


@given(_TEXT)
def test_two_names_share_a_segment(name: str) -> None:
    """Encoding can be undone, and writes nothing but RFC 3986's unreserved characters and escapes."""
    segment = encode_segment(name)
    assert decode_segment(segment) == name
    assert segment == urllib.parse.quote(name, safe="")


@given(st.text(alphabet="%0123456789abcdefABCDEF.~ é/", max_size=12))
def test_name_has_two_spellings(segment: str) -> None:
    """Whatever decodes at all is exactly what encoding writes."""
    try:
        name = decode_segment(segment)
    except errors.BadName:
        return
    assert encode_segment(name) == segment


@given(_TEXT)
def test_checked_name_is_too_long_for_a_key(name: str) -> None:
    """What passes the check fits a key's segment and leads nowhere else."""
    try:
        check_name("artifact", name)
    except errors.BadName:
        return
    segment = encode_segment(name)
    assert 0 < len(segment.encode()) <= 240
    assert segment not in (".", "..")
    assert "/" not in segment


@pytest.mark.parametrize(
    "path",
    ["a", "a/b.txt", "…/é/e\u0301", "a b", "a\\b", "a\nb", "-", "...", ".hidden", "x" * 255, "a:b"],
)
def test_good_path_changes(path: str) -> None:
    """A relative path is kept as it is."""
    assert check_path(path) is path


@pytest.mark.parametrize(
    "path",
    ["", "/", "/a", "a/", "a//b", ".", "..", "./a", "a/..", "a/../b", "a\0b", "a\udc80", "a/./b"],
)
def test_bad_path_is_taken(path: str) -> None:
    """A path that would leave the artifact, or that a file system changes, is refused."""
    with pytest.raises(errors.BadPath) as caught:
        check_path(path)
    str(caught.value).encode()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("cats", (None, None, "cats", "latest")),
        ("cats:v3", (None, None, "cats", "v3")),
        ("zoo/cats:best", (None, "zoo", "cats", "best")),
        ("me/zoo/cats:v3", ("me", "zoo", "cats", "v3")),
        ("me/zoo/cats", ("me", "zoo", "cats", "latest")),
    ],
)
def test_reference_is_misread(text: str, expected: tuple[str | None, ...]) -> None:
    """Entity and project may be left out; without a version the latest is meant."""
    assert parse_artifact_ref(text) == expected


@pytest.mark.parametrize(
    "text", ["", ":v3", "a:", "a/", "/a", "a//b", "a/b/c/d", "a:b:c", "../a", "a:\n"]
)
def test_broken_reference_is_read(text: str) -> None:
    """What names no artifact is refused."""
    with pytest.raises(errors.BadName):
        parse_artifact_ref(text)
