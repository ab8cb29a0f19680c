"""Types, artifacts and versions of a project: what is asked of the daemon, and W&B's ways through lists."""

from __future__ import annotations

from itertools import islice

import pytest

import wherry
from tests.unit.client.recorder import Recorder
from wherry import errors
from wherry.catalog import Artifacts
from wherry.wire import wherry_pb2 as pb

COUNT = 120


@pytest.fixture
def api(recorder: Recorder) -> wherry.Api:
    """What looks at cats: v0 to v119 of data, every tenth deleted and every third tagged; and two more."""
    recorder.versions = [_version("data", n) for n in range(COUNT) if n % 10]
    recorder.versions += [_version("model", 0, "model"), _version("pets", 0)]
    return wherry.Api({"project": "cats"})


def _version(name: str, number: int, type_: str = "dataset") -> pb.Version:
    aliases = ["latest"] if number in (0, COUNT - 1) else []
    tags = [] if number % 3 else ["third"]
    created = f"2026-11-23T14:00:00.{number:03}Z"
    return pb.Version(
        store="s",
        project="cats",
        name=name,
        version=number,
        type=type_,
        metadata=b"{}",
        aliases=aliases,
        tags=tags,
        created=created,
    )


NEWEST_FIRST = [f"v{n}" for n in range(COUNT - 1, -1, -1) if n % 10]


def _versions(found: Artifacts) -> list[str]:
    return [each.version for each in found]


# ── the list of versions ───────────────────────────────────────────────────────────────────────
def test_list_reads_what_nobody_looks_at(api: wherry.Api, recorder: Recorder) -> None:
    """Nothing is asked for before somebody looks, and then a page; what was read is not read again."""
    found = api.artifacts("dataset", "data", per_page=10)
    assert recorder.asked_lists == []
    assert [each.version for each in islice(found, 10)] == NEWEST_FIRST[:10]
    assert found[3].version == "v116"
    assert [(each.limit, each.HasField("before")) for each in recorder.asked_lists] == [(10, False)]


def test_long_list_takes_many_requests(api: wherry.Api, recorder: Recorder) -> None:
    """Each page is as long as all before together, and goes on where the last one ended."""
    found = api.artifacts("dataset", "data", per_page=10)
    assert _versions(found) == NEWEST_FIRST == _versions(found)
    asked = [(each.limit, each.before) for each in recorder.asked_lists]
    assert asked == [(10, 0), (10, 109), (20, 98), (40, 76), (80, 32)]


@pytest.mark.parametrize("per_page", [1, 2, 50, 107, 108, 109, 500])
def test_page_is_lost_or_repeated(api: wherry.Api, per_page: int) -> None:
    """All versions come, newest first, whatever the pages' size."""
    assert _versions(api.artifacts("dataset", "data", per_page=per_page)) == NEWEST_FIRST


def test_version_logged_meanwhile_comes_twice(api: wherry.Api, recorder: Recorder) -> None:
    """A list stays as it was when it was begun: what is logged then is in none of its pages."""
    found = api.artifacts("dataset", "data")
    assert found
    recorder.versions.append(_version("data", COUNT))
    assert len(found) == len(NEWEST_FIRST)
    assert _versions(found) == NEWEST_FIRST
    assert _versions(api.artifacts("dataset", "data"))[0] == f"v{COUNT}"


@pytest.mark.parametrize(
    "index",
    [
        0,
        7,
        60,
        -1,
        -108,
        slice(3),
        slice(2, 60, 3),
        slice(-5, None),
        slice(None, None, -1),
        slice(None),
    ],
)
def test_index_gives_something_else(api: wherry.Api, index: int | slice) -> None:
    """Indices and slices are a list's."""
    found = api.artifacts("dataset", "data")[index]
    if isinstance(found, list):
        assert [each.version for each in found] == NEWEST_FIRST[index]
    else:
        assert found.version == NEWEST_FIRST[index]


def test_other_ways_through_a_list_fail(api: wherry.Api) -> None:
    """`next`, `reversed`, truth and an index too high are those of W&B's lists and Python's."""
    found = api.artifacts("dataset", "data")
    assert [next(found).version, next(found).version] == NEWEST_FIRST[:2]
    assert [each.version for each in reversed(found)] == NEWEST_FIRST[::-1]
    assert found and not api.artifacts("dataset", "data", tags=["none"])
    with pytest.raises(IndexError):
        found[108]


def test_length_reads_all(api: wherry.Api, recorder: Recorder) -> None:
    """The length is right beside deleted versions, and costs a page and one count, once for all."""
    found = api.artifacts("dataset", "data")
    assert len(found) == len(found) == len(NEWEST_FIRST)
    assert (len(recorder.asked_lists), len(recorder.asked_names)) == (1, 1)
    assert len(api.artifacts("dataset", "pets")) == 1
    assert len(recorder.asked_names) == 1, "a list that ends on its first page needs no count"


def test_tags_are_not_looked_at(api: wherry.Api) -> None:
    """Only versions that have all tags are in the list and its length, on whatever page."""
    third = [each for each in NEWEST_FIRST if int(each[1:]) % 3 == 0]
    found = api.artifacts("dataset", "data", per_page=2, tags="third")
    assert len(found) == len(third)
    assert _versions(found) == third
    assert _versions(api.artifacts("dataset", "data", tags=["third", "none"])) == []


def test_older_daemon_is_asked_for_ever(api: wherry.Api, recorder: Recorder) -> None:
    """A daemon that knows no pages and counts nothing is understood all the same."""
    recorder.knows_pages = False
    found = api.artifacts("dataset", "data")
    assert len(found) == len(NEWEST_FIRST)
    assert _versions(found) == NEWEST_FIRST


def test_bad_list_is_found_out_late(api: wherry.Api, recorder: Recorder) -> None:
    """A page of no versions is refused at once; what is not there, and of another type, at the first look."""
    with pytest.raises(errors.UsageError, match="not 0"):
        api.artifacts("dataset", "data", per_page=0)
    nothing = api.artifacts("dataset", "nothing")
    with pytest.raises(errors.NotFoundError):
        next(iter(nothing))
    recorder.refuse("ListVersions", "StoreError", "gone")
    found = api.artifacts("dataset", "data")
    with pytest.raises(errors.StoreError):
        found[0]
    assert found[0].version == NEWEST_FIRST[0], "the next look asks again"


# ── types and artifacts ────────────────────────────────────────────────────────────────────────
def test_types_and_artifacts_are_others(api: wherry.Api, recorder: Recorder) -> None:
    """Types, and the artifacts of a type, are those that have a version, by name."""
    recorder.versions.append(_version("gone", -1, "gone"))
    types = api.artifact_types()
    assert recorder.asked_names == [], "nothing is asked for before somebody looks"
    assert [each.name for each in types] == ["dataset", "model"]
    assert len(types) == 2
    assert types[1].project == "cats"
    (model,) = types[1].collections()
    assert (model.name, model.type, model.id) == ("model", "model", "cats/model")
    found = api.artifact_collections("me/cats", "dataset", per_page=10)
    assert [each.name for each in found] == ["data", "pets"]
    assert found[0].entity is None
    assert len(api.artifact_collections("cats", "gone")) == 0


def test_thing_that_is_not_there_is_found(api: wherry.Api) -> None:
    """A type and an artifact that are asked for by name are looked for at once."""
    assert api.artifact_type("dataset", "cats").collection("data").name == "data"
    assert api.artifact_collection("dataset", "me/cats/data").project == "cats"
    with pytest.raises(errors.NotFoundError, match="cats has no artifact of type 'nothing'"):
        api.artifact_type("nothing")
    with pytest.raises(errors.NotFoundError, match="no artifact cats/data of type 'model'"):
        api.artifact_collection("model", "data")
    with pytest.raises(errors.BadName):
        api.artifact_types("a:b")


def test_artifact_tells_something_else(api: wherry.Api, recorder: Recorder) -> None:
    """An artifact has its versions, all their aliases, and the times of the first and the last."""
    found = api.artifact_collection("dataset", "data")
    assert len(found.artifacts()) == len(found.versions(per_page=5)) == len(NEWEST_FIRST)
    assert found.aliases == ["latest"]
    assert found.updated_at == "2026-11-23T14:00:00.119Z"
    assert found.created_at == "2026-11-23T14:00:00.001Z", "v0 was deleted"
    assert api.artifact_collection("dataset", "pets").created_at == "2026-11-23T14:00:00.000Z"
    assert (found.description, found.tags, found.is_sequence()) == (None, [], True)
    found.save()
    with pytest.raises(errors.UsageError, match="no description of its own"):
        found.description = "all of them"
    recorder.deleted.clear()
    api.artifact_collection("dataset", "pets").delete()
    assert [(each.name, each.version, each.with_aliases) for each in recorder.deleted] == [
        ("pets", 0, True)
    ]


def test_version_belongs_to_no_artifact(api: wherry.Api, recorder: Recorder) -> None:
    """A version, found or logged just now, knows its artifact without asking; what is not logged has none."""
    found = api.artifact("data:v7").collection
    assert (found.id, found.type, len(found.artifacts())) == ("cats/data", "dataset", 108)
    artifact = wherry.Artifact("model", "model")
    with pytest.raises(errors.ArtifactNotLoggedError):
        artifact.collection  # noqa: B018 - the look is what raises
    wherry.init(project="cats").log_artifact(artifact)
    assert artifact.collection.id == "cats/model"
