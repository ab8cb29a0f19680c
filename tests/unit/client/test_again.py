"""Logging a version that was found in a store: it stays that version."""

from __future__ import annotations

import pytest

import wherry
from tests.unit.client.recorder import Recorder
from wherry import errors


@pytest.fixture
def run(recorder: Recorder) -> wherry.Run:
    """A run of cats, where v0 of model is, with the alias `best` and the tag `t`."""
    run = wherry.init(project="cats")
    run.log_artifact(wherry.Artifact("model", "model"), aliases=["best"], tags=["t"])
    recorder.commit(0, 0)
    recorder.versions[0].tags.append("t")
    return run


@pytest.fixture
def found(run: wherry.Run) -> wherry.Artifact:
    """That version, as it is found."""
    return run.use_artifact("model:v0")


def test_version_is_logged_as_another(
    run: wherry.Run, found: wherry.Artifact, recorder: Recorder
) -> None:
    """Logging a version gives the same version, and nothing is asked for where nothing changes."""
    assert run.log_artifact(found, aliases=["best", "latest"], tags=["t"]) is found
    assert found.wait().version == "v0"
    assert (len(recorder.logged), recorder.edits) == (1, [])


def test_aliases_and_tags_are_lost(
    run: wherry.Run, found: wherry.Artifact, recorder: Recorder
) -> None:
    """It gets the aliases and tags that it does not have; what the user has not saved is not saved by it."""
    found.metadata["unsaved"] = True
    found.aliases.remove("best")
    run.log_artifact(found, aliases=["prod", "best"], tags=["u"])
    (asked,) = recorder.edits
    assert (list(asked.add_aliases), list(asked.remove_aliases)) == (["prod"], [])
    assert list(asked.tags.tags) == ["t", "u"]
    assert not asked.HasField("metadata")
    assert ({"best", "prod"} <= {*found.aliases}, found.tags) == (True, ["t", "u"])
    found.save()
    assert recorder.edits[1].metadata == b'{"unsaved":true}'
    assert not recorder.edits[1].remove_aliases, "it was given again"
    assert not recorder.edits[1].HasField("tags")


def test_version_of_elsewhere_is_logged(found: wherry.Artifact, recorder: Recorder) -> None:
    """A run of another project or store says where the version is, and what to do."""
    other = wherry.init(project="dogs")
    with pytest.raises(
        errors.UsageError, match="cats/model:v0 is a version in the project cats"
    ) as it:
        other.log_artifact(found)
    assert "add what download() brings" in str(it.value)
    recorder.versions[0].store = "s3://other/store"
    found = wherry.Api({"project": "cats"}).artifact("model:v0")
    with pytest.raises(errors.UsageError, match="in the store s3://other/store"):
        wherry.init(project="cats").log_artifact(found)
    assert len(recorder.logged) == 1


def test_version_is_put_into_a_draft(
    run: wherry.Run, found: wherry.Artifact, recorder: Recorder
) -> None:
    """A version is no part of a draft, and finishes none."""
    for call in (run.upsert_artifact, run.finish_artifact):
        with pytest.raises(errors.ArtifactStateError, match="is a version already"):
            call(found, distributed_id="d")
    assert len(recorder.logged) == 1


def test_deleted_version_is_logged(run: wherry.Run, found: wherry.Artifact) -> None:
    """What was deleted can't be logged again."""
    found.delete(delete_aliases=True)
    with pytest.raises(errors.ArtifactStateError, match="model:v0 was deleted"):
        run.log_artifact(found)


def test_offline_mode_sends_aliases(
    run: wherry.Run, found: wherry.Artifact, recorder: Recorder
) -> None:
    """Offline, a version can be logged, and nothing of it can be changed."""
    run.finish()
    offline = wherry.init(project="cats", mode="offline")
    offline.log_artifact(found)
    with pytest.raises(errors.Offline, match="gets no aliases"):
        offline.log_artifact(found, aliases=["prod"])
    assert recorder.edits == []
