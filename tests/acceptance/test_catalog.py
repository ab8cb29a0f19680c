"""Finding what a store has: versions, artifacts and types, by a real daemon; and using it in what is new."""

from __future__ import annotations

import json

from tests.support.machine import Machine

LISTS = """
import json
import wherry

with wherry.init(project="p") as run:
    for step in range(25):
        artifact = wherry.Artifact("model", "model", metadata={"step": step})
        run.log_artifact(artifact, tags=["even"] if step % 2 == 0 else [])
    run.log_artifact(wherry.Artifact("pets", "dataset"))
    run.log_artifact(wherry.Artifact("gone", "other"))

api = wherry.Api({"project": "p"})
for number in (0, 7, 8, 24):
    api.artifact(f"model:v{number}").delete(delete_aliases=True)
api.artifact("gone:v0").delete(delete_aliases=True)
best = api.artifact("model:v9")
best.aliases.append("best")
best.save()

found = api.artifacts("model", "p/model", per_page=4)
model = api.artifact_collection("model", "me/p/model")
print(json.dumps({
    "length": len(found),
    "versions": [each.version for each in found],
    "steps": [each.metadata["step"] for each in found[:2]],
    "oldest": found[-1].version,
    "even": [each.version for each in api.artifacts("model", "model", tags="even", per_page=3)],
    "latest": [each.version for each in found if "latest" in each.aliases],
    "types": [each.name for each in api.artifact_types()],
    "artifacts": [each.name for each in api.artifact_collections("p", "model")],
    "aliases": model.aliases,
    "count": len(model.artifacts(per_page=1)),
    "created": model.created_at == found[-1].created_at,
}))
"""


def test_list_shows_other_versions(machine: Machine) -> None:
    """Lists have what is not deleted, newest first, and their length says how many that are."""
    found = json.loads(machine.run(LISTS))
    left = [f"v{number}" for number in range(23, 0, -1) if number not in (7, 8)]
    assert found == {
        "length": len(left),
        "versions": left,
        "steps": [23, 22],
        "oldest": "v1",
        "even": [each for each in left if int(each[1:]) % 2 == 0],
        "latest": ["v23"],
        "types": ["dataset", "model"],
        "artifacts": ["model"],
        "aliases": ["best", "latest"],
        "count": len(left),
        "created": True,
    }


AGAIN = """
import wherry

with open("x", "w") as file: file.write("x" * 100_000)
with wherry.init(project="p") as run:
    run.log_artifact("x", name="data", type="dataset").wait()
with wherry.init(project="p") as run:
    found = run.use_artifact("data:latest")
    assert run.log_artifact(found, aliases=["prod"], tags=["seen"]).version == "v0"
    again = wherry.Api().artifact("p/data:prod")
    assert (again.version, again.tags) == ("v0", ["seen"])
    assert len(wherry.Api().artifacts("dataset", "p/data")) == 1

    derived = wherry.Artifact("derived", "dataset")
    derived.add_reference(found.get_entry("x"), name="by/entry")
    derived.add_reference(found.get_entry("x").ref_url(), name="by/url")
    run.log_artifact(derived).wait()
    found.delete(delete_aliases=True)
    run.use_artifact("derived:v0").download("out")
    for name in ("entry", "url"):
        with open(f"out/by/{name}") as file: assert file.read() == "x" * 100_000
print("done")
"""


def test_version_is_logged_or_stored_twice(machine: Machine) -> None:
    """A version that is logged again stays one, its entries in another artifact outlive it, and their bytes
    are in the store once.
    """
    assert machine.run(AGAIN) == "done\n"
    blobs = machine.home / "store" / "p" / "blobs"
    assert len([path for path in blobs.rglob("*") if path.is_file()]) == 1


def test_source_is_logged_twice(machine: Machine) -> None:
    """The program's source is one version as long as it is the same."""
    program = """
        import sys, wherry
        with open("helper.py", "w") as file: file.write(sys.argv[1])
        with wherry.init(project="p") as run:
            print(run.log_code(name="source").wait().version)
        """
    assert [machine.run(program, each) for each in ("1", "1", "2")] == ["v0\n", "v0\n", "v1\n"]
