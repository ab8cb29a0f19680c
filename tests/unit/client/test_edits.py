"""Changing a version: what the user changed is saved, and nothing that somebody else did is undone."""

from __future__ import annotations

import pytest

import wherry
from tests.unit.client.recorder import Recorder
from tests.unit.client.test_download import put
from wherry import edits, errors


@pytest.fixture
def artifact(recorder: Recorder) -> wherry.Artifact:
    put(recorder, {"a": b"a"})
    (version,) = recorder.versions
    version.metadata, version.description = b'{"a":{"b":1}}', "old"
    version.tags.append("t")
    version.aliases.insert(0, "best")
    return wherry.Api({"project": "cats"}).artifact("data:v0")


def test_nothing_is_saved(artifact: wherry.Artifact, recorder: Recorder) -> None:
    """Where nothing was changed, nothing is asked for."""
    artifact.save()
    assert recorder.edits == []


def test_other_things_are_saved(artifact: wherry.Artifact, recorder: Recorder) -> None:
    """Each attribute that was changed is sent, also where a list or a dict was changed in place."""
    artifact.metadata["a"]["b"] = 2  # type: ignore[index, call-overload]
    artifact.save()
    artifact.description = None
    artifact.tags.append("u")
    artifact.save()
    artifact.aliases.append("prod")
    artifact.aliases.remove("best")
    artifact.save()
    first, second, third = recorder.edits
    assert first.metadata == b'{"a":{"b":2}}'
    assert not first.HasField("description") and not first.HasField("tags")
    assert second.HasField("description") and not second.description.HasField("text")
    assert list(second.tags.tags) == ["t", "u"]
    assert (list(third.add_aliases), list(third.remove_aliases)) == (["prod"], ["best"])
    assert not third.HasField("metadata")
    again = wherry.Api({"project": "cats"}).artifact("data:v0")
    assert (again.description, again.metadata, again.tags) == (None, {"a": {"b": 2}}, ["t", "u"])
    assert sorted(again.aliases) == ["latest", "prod"]
    assert artifact.updated_at == "2026-11-30T00:00:00.000Z"
    artifact.save()
    assert len(recorder.edits) == 3


def test_empty_values_say_nothing(artifact: wherry.Artifact, recorder: Recorder) -> None:
    """Everything may be taken away; ``latest`` can't."""
    artifact.metadata, artifact.tags, artifact.description = {}, [], ""
    artifact.aliases = []
    artifact.save()
    (asked,) = recorder.edits
    assert (asked.metadata, list(asked.tags.tags)) == (b"{}", [])
    assert asked.HasField("tags") and asked.description.HasField("text")
    assert list(asked.remove_aliases) == ["best"]


def test_what_is_changed_before_the_commit_is_lost(recorder: Recorder) -> None:
    """An artifact that was just logged keeps what is changed of it until it is saved as a version."""
    run = wherry.init(project="cats")
    logged = wherry.Artifact("data", "dataset", description="old", metadata={"a": 1})
    run.log_artifact(logged, aliases=["mine"])
    logged.metadata["b"] = 2
    logged.aliases.append("best")
    recorder.commit(0, 0)
    recorder.versions[0].aliases.insert(0, "theirs")
    assert logged.digest  # which reads the version
    assert logged.metadata == {"a": 1, "b": 2}
    assert set(logged.aliases) == {"mine", "theirs", "latest", "best"}
    logged.save()
    (asked,) = recorder.edits
    assert asked.metadata == b'{"a":1,"b":2}'
    assert (list(asked.add_aliases), list(asked.remove_aliases)) == (["best"], [])
    assert not asked.HasField("description")


def test_a_failed_save_is_forgotten(artifact: wherry.Artifact, recorder: Recorder) -> None:
    """What could not be saved is saved the next time."""
    recorder.refuse("EditVersion", "StoreUnavailable")
    artifact.tags.append("u")
    with pytest.raises(errors.StoreUnavailable):
        artifact.save()
    artifact.save()
    assert [list(asked.tags.tags) for asked in recorder.edits] == [["t", "u"]]
    artifact.aliases.append("latest ")
    recorder.refuse("EditVersion", "BadName")
    with pytest.raises(errors.BadName):
        artifact.save()
    artifact.aliases.remove("latest ")
    artifact.save()
    assert len(recorder.edits) == 1


def test_what_is_held_is_another_object(artifact: wherry.Artifact, recorder: Recorder) -> None:
    """Metadata and lists stay the same objects over a save: what is changed of them is saved, too."""
    metadata, tags, aliases = artifact.metadata, artifact.tags, artifact.aliases
    metadata["x"] = 1
    artifact.save()
    metadata["y"] = 2
    tags.append("u")
    aliases.append("prod")
    artifact.save()
    assert [asked.metadata for asked in recorder.edits] == [
        b'{"a":{"b":1},"x":1}',
        b'{"a":{"b":1},"x":1,"y":2}',
    ]
    assert list(recorder.edits[1].tags.tags) == ["t", "u"]
    assert list(recorder.edits[1].add_aliases) == ["prod"]


def test_a_log_is_a_users_move(recorder: Recorder) -> None:
    """Aliases that a second run gave by logging are no user's: saving something else leaves them alone."""
    first, logged = wherry.init(project="cats"), wherry.Artifact("data", "dataset")
    first.log_artifact(logged)
    recorder.commit(0, 0)
    wherry.init(project="cats", id="second").log_artifact(logged, aliases=["prod"])
    logged.description = "x"
    logged.save()
    (asked,) = recorder.edits
    assert list(asked.add_aliases) == list(asked.remove_aliases) == []


def test_metadata_of_others_is_lost(recorder: Recorder) -> None:
    """What others have put into a draft's metadata stays beside what is changed here."""
    run = wherry.init(project="cats", group="g")
    whole = wherry.Artifact("set", "dataset", metadata={"mine": 1, "gone": 1})
    run.finish_artifact(whole)
    recorder.commit(0, 0)
    recorder.versions[0].metadata = b'{"gone":1,"mine":1,"theirs":2}'
    whole._life.metadata["done"] = True
    del whole._life.metadata["gone"]
    whole.save()
    (asked,) = recorder.edits
    assert asked.metadata == b'{"done":true,"mine":1,"theirs":2}'


def test_numbers_of_numpy_are_an_error(artifact: wherry.Artifact, recorder: Recorder) -> None:
    """Metadata is made plain when it is saved, as when it is logged; until then it harms nothing."""
    numpy = pytest.importorskip("numpy")
    artifact.metadata["acc"] = numpy.float32(0.5)
    artifact.metadata["bad"] = float("nan")
    assert artifact.digest == ""
    artifact.save()
    (asked,) = recorder.edits
    assert asked.metadata == b'{"a":{"b":1},"acc":0.5,"bad":"NaN"}'


@pytest.mark.parametrize(
    ("before", "now", "there", "merged"),
    [
        ("ab", "ab", "abc", "abc"),
        ("ab", "abx", "ab", "abx"),
        ("ab", "a", "abc", "ac"),
        ("ab", "bx", "cd", "cdx"),
        ("", "x", "x", "x"),
    ],
)
def test_a_list_is_written_over(before: str, now: str, there: str, merged: str) -> None:
    """What was added here is added there, what was taken away is taken away, the rest stays."""
    assert edits.merged(before, now, there) == [*merged]


def test_bad_values_are_saved(artifact: wherry.Artifact, recorder: Recorder) -> None:
    """What could not be logged can't be saved either; nothing is sent."""
    artifact.metadata["a"] = object()  # type: ignore[assignment]
    with pytest.raises(errors.BadMetadata):
        artifact.save()
    artifact.metadata = {}
    with pytest.raises(errors.BadName):
        artifact.tags = ["a/b"]
    with pytest.raises(errors.BadName):
        artifact.aliases = ["v7"]
    assert recorder.edits == []


def test_a_deleted_version_looks_alive(artifact: wherry.Artifact, recorder: Recorder) -> None:
    """``delete`` names the version; afterwards its state says so."""
    assert artifact.state == "COMMITTED"
    artifact.delete(delete_aliases=True)
    (asked,) = recorder.deleted
    assert (asked.project, asked.name, asked.version) == ("cats", "data", 0)
    assert asked.with_aliases
    assert artifact.state == "DELETED"


def test_disabled_mode_saves(recorder: Recorder) -> None:
    """In disabled mode nothing is saved or deleted, and nothing fails."""
    run = wherry.init(mode="disabled")
    logged = run.log_artifact(wherry.Artifact("data", "dataset"))
    logged.metadata["a"] = 1
    logged.save()
    logged.delete()
    assert (recorder.edits, recorder.deleted) == ([], [])


def test_a_part_of_a_draft_is_saved(recorder: Recorder) -> None:
    """What was upserted is no version, and the error says so."""
    run = wherry.init(project="cats", group="g")
    part = wherry.Artifact("set", "dataset")
    run.upsert_artifact(part)
    with pytest.raises(errors.ArtifactNotLoggedError, match="draft"):
        part.save()
