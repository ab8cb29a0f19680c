from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wherryd.registry import layout

HEX = "ab" * 32
NAMES = st.text(st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="/:"), min_size=1)


def test_keys_are_those_of_the_design() -> None:
    """Another program finds each thing where docs/store-format.md says."""
    assert layout.artifact_key("cats", "model") == "cats/artifacts/model/artifact.json"
    assert layout.version_key("cats", "model", 7) == "cats/artifacts/model/versions/v00000007.json"
    assert layout.edit_key("cats", "model", 7).endswith("/versions/v00000007.edit.json")
    assert layout.alias_key("cats", "model", "best") == "cats/artifacts/model/aliases/best.json"
    assert layout.manifest_key("cats", f"sha256:{HEX}") == f"cats/manifests/sha256/ab/{HEX}"
    assert layout.blob_key("cats", f"sha256:{HEX}") == f"cats/blobs/sha256/ab/{HEX}"
    assert layout.pack_key("cats", HEX) == f"cats/packs/sha256/ab/{HEX}"
    assert layout.draft_prefix("cats", HEX) == f"cats/drafts/{HEX}/"
    assert layout.run_prefix("cats", "q3k9") == "cats/runs/q3k9/"


def test_names_are_one_segment_each() -> None:
    """A name never adds a level to a key."""
    key = layout.alias_key("a b", "é", "50%")
    assert key == "a%20b/artifacts/%C3%A9/aliases/50%25.json"


@given(st.integers(0, 10**12))
def test_numbers_come_back_from_their_keys(version: int) -> None:
    """A number of any length is read from the key that it gives."""
    assert layout.parse_version(layout.version_key("p", "n", version)) == version
    assert layout.parse_edit(layout.edit_key("p", "n", version)) == version
    assert layout.parse_edit(layout.version_key("p", "n", version)) is None


@pytest.mark.parametrize(
    "segment",
    [
        "v00000007.edit.json",
        "v0000007.json",
        "v000000007.json",
        "v00000007.json.tmp",
        "v0000000x.json",
        "v0000000\u0667.json",
        "V00000007.json",
        "v-0000007.json",
        "00000007.json",
        "v00000007.json\n",
    ],
)
def test_other_keys_are_no_versions(segment: str) -> None:
    """What lies beside the records is passed over, and a number has one spelling."""
    assert layout.parse_version(f"p/artifacts/n/versions/{segment}") is None
    if segment != "v00000007.edit.json":
        assert layout.parse_edit(f"p/artifacts/n/versions/{segment}") is None


@given(NAMES)
def test_aliases_come_back_from_their_keys(alias: str) -> None:
    """An alias that looks like a file name stays itself."""
    for name in (alias, f"{alias}.json"):
        assert layout.parse_alias(layout.alias_key("p", "n", name)) == name


@pytest.mark.parametrize(
    "segment", ["best", "a b.json", "%7.json", "%61.json", ".json", "%FF.json"]
)
def test_other_keys_are_no_aliases(segment: str) -> None:
    """A segment that no name is written like is passed over."""
    assert layout.parse_alias(f"p/artifacts/n/aliases/{segment}") is None


@given(st.integers(-1, 10**10), st.integers(0, 10**10))
def test_a_listing_from_there_misses_no_higher_number(after: int, version: int) -> None:
    """Records above a number are listed after its start, though longer numbers sort first."""
    start = layout.before_versions_above("p", "n", after)
    if version > after:
        assert layout.version_key("p", "n", version) > start


def test_a_listing_of_ordinary_numbers_starts_at_them() -> None:
    """A listing does not read again what is known."""
    start = layout.before_versions_above("p", "n", 41)
    assert layout.version_key("p", "n", 41) <= start < layout.version_key("p", "n", 42)


def test_a_project_does_not_lie_over_the_stores_id() -> None:
    """A project called like a key beside the projects has folders of its own."""
    for key in (layout.IDENTITY, layout.WRITER):
        assert not layout.version_key(key, "n", 0).startswith(f"{key}/")


@pytest.mark.parametrize(
    "digest", ["", HEX, f"sha256:{HEX[1:]}", f"sha256:{HEX.upper()}", "sha256:../../../etc/passwd"]
)
def test_a_digest_that_is_none_makes_no_key(digest: str) -> None:
    """What stands in a record can't lead out of its folder."""
    with pytest.raises(ValueError, match="sha256"):
        layout.blob_key("p", digest)
