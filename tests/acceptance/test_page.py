"""The programs of the page that users come from, with ``import wherry as wandb``."""

from __future__ import annotations

import json

import pytest

from tests.soak import SOAK
from tests.support.machine import Machine
from tests.support.reading import FolderObjects, files, records

LOOP = """
import os
import wherry as wandb

with wandb.init(project="artifacts-example", job_type="job-type") as run:
    for i in range(10):
        a = wandb.Artifact(
            "race",
            type="dataset",
            metadata={
                "index": i,
            },
        )
        # later ones are smaller, and would be there first
        with open("data.bin", "wb") as f:
            f.write(os.urandom(8_000_000 // (i + 1) ** 2))
        a.add_file("data.bin")
        run.log_artifact(a)
"""

TABLES = """
import os
import wherry as wandb

os.makedirs("project-directory/images"); os.makedirs("project-directory/checkpoints")
os.chdir("project-directory")
for path in ("images/cat.png", "images/dog.png", "checkpoints/model.h5", "model.h5"):
    with open(path, "w") as f:
        f.write(path)

run = wandb.init(project="artifacts-example", job_type="job-type")

def log(name, build):
    artifact = wandb.Artifact(name=name, type="dataset")
    build(artifact)
    run.log_artifact(artifact)

log("file", lambda a: a.add_file("model.h5"))
log("nested", lambda a: a.add_file("checkpoints/model.h5"))
log("named", lambda a: a.add_file("model.h5", name="models/mymodel.h5"))
log("dir", lambda a: a.add_dir("images"))
log("prefixed", lambda a: a.add_dir("images", name="images"))

def new(a):
    with a.new_file("hello.txt") as f:
        f.write("hello")
log("new", new)
run.finish()
"""


@pytest.mark.soak
@pytest.mark.parametrize("again", range(20 if SOAK else 2))
def test_the_loop_is_reordered(machine: Machine, again: int) -> None:
    """The loop of ten logs gives v0…v9 with index 0…9."""
    machine.run(LOOP)
    objects = FolderObjects(machine.home / "store")
    found = records(objects, "artifacts-example", "race")
    assert [record["metadata"]["index"] for record in found] == list(range(10))
    sizes = [
        len(body) for record in found for _, body in files(objects, "artifacts-example", record)
    ]
    assert sizes == [8_000_000 // (i + 1) ** 2 for i in range(10)]


def test_a_row_of_the_tables_gives_other_paths(machine: Machine) -> None:
    """Each call of the page's tables gives the paths that stand beside it."""
    machine.run(TABLES)
    objects = FolderObjects(machine.home / "store")

    def content(name: str) -> dict[str, str]:
        (record,) = records(objects, "artifacts-example", name)
        return {p: body.decode() for p, body in files(objects, "artifacts-example", record)}

    assert content("file") == {"model.h5": "model.h5"}
    assert content("nested") == {"model.h5": "checkpoints/model.h5"}
    assert content("named") == {"models/mymodel.h5": "model.h5"}
    assert content("dir") == {"cat.png": "images/cat.png", "dog.png": "images/dog.png"}
    assert content("prefixed") == {
        "images/cat.png": "images/cat.png",
        "images/dog.png": "images/dog.png",
    }
    assert content("new") == {"hello.txt": "hello"}


def test_what_was_logged_is_not_used(machine: Machine) -> None:
    """``use_artifact`` and ``download`` give back the bytes, by alias and by version."""
    machine.run(LOOP)
    out = machine.run(
        """
        import json, os
        import wherry as wandb
        with wandb.init(project="artifacts-example") as run:
            latest = run.use_artifact("race:latest")
            third = run.use_artifact("race:v3")
            sizes = {}
            for artifact in (latest, third):
                path = artifact.download()
                sizes[artifact.name] = os.path.getsize(os.path.join(path, "data.bin"))
            print(json.dumps([sizes, latest.version, third.metadata]))
        """
    )
    assert json.loads(out) == [
        {"race:v9": 80_000, "race:v3": 500_000},
        "v9",
        {"index": 3},
    ]
