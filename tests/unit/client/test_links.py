"""What ported programs do at their end that has no meaning here: links to a registry, and times to live."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

import wherry
from tests.unit.client.recorder import Recorder
from wherry import errors, notices


@pytest.fixture(autouse=True)
def _unsaid() -> Iterator[None]:
    """Let each thing be said again."""
    vars(notices)["_said"].clear()
    yield
    vars(notices)["_said"].clear()


@pytest.fixture
def run(recorder: Recorder) -> wherry.Run:
    """A run of cats."""
    return wherry.init(project="cats")


def test_link_stops_the_program(
    run: wherry.Run, recorder: Recorder, recwarn: pytest.WarningsRecorder
) -> None:
    """Linking logs what was not logged, links nothing, and says so once, where the program called."""
    artifact = wherry.Artifact("model", "model")
    assert run.link_artifact(artifact, "wandb-registry-model/best", aliases=["prod"]) is artifact
    assert run.link_artifact(artifact, target_path="elsewhere") is artifact
    (said,) = recwarn
    assert "link_artifact() links nothing: there is no registry" in str(said.message)
    assert said.filename == __file__
    (logged,) = recorder.logged
    assert (logged.header.name, list(logged.header.aliases)) == ("model", [])


def test_model_is_linked_and_lost(
    run: wherry.Run, recorder: Recorder, tmp_path: Path, recwarn: pytest.WarningsRecorder
) -> None:
    """Linking a model logs it."""
    (tmp_path / "model.pt").write_bytes(b"m")
    artifact = run.link_model("model.pt", "registered", aliases=["prod"])
    run.link_model(path="model.pt", registered_model_name="registered", name="mine")
    assert (artifact.base_name, artifact.type) == (f"run-{run.id}-model.pt", "model")
    assert [logged.header.name for logged in recorder.logged] == [artifact.base_name, "mine"]
    assert len(recwarn) == 1


def test_artifact_links_itself(
    run: wherry.Run, recorder: Recorder, recwarn: pytest.WarningsRecorder
) -> None:
    """An artifact that is linked is logged by the active run, once, and can be unlinked."""
    artifact = wherry.Artifact("model", "model")
    assert artifact.link("registry/best") is artifact
    artifact.link("registry/best", aliases=["prod"])
    artifact.unlink()
    assert len(recorder.logged) == 1
    assert [("unlink" in str(said.message), said.filename) for said in recwarn] == [
        (False, __file__),
        (True, __file__),
    ]


def test_time_to_live_deletes_something(run: wherry.Run, recwarn: pytest.WarningsRecorder) -> None:
    """A time to live can be set, as W&B's programs do, is warned of once, and has no effect."""
    artifact = wherry.Artifact("model", "model")
    artifact.ttl = None
    assert len(recwarn) == 0
    artifact.ttl = timedelta(days=30)
    artifact.ttl = timedelta(days=60)
    assert (len(recwarn), artifact.ttl) == (1, None)


@pytest.mark.filterwarnings("ignore:wherry. Run.link_artifact")
def test_finished_run_links(run: wherry.Run) -> None:
    """A run that is finished logs nothing, not even by linking."""
    run.finish()
    with pytest.raises(errors.ArtifactStateError, match="is finished"):
        run.link_artifact(wherry.Artifact("model", "model"), "registry/best")
