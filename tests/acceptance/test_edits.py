"""Changing versions, end to end: what several machines say of one version all counts."""

from __future__ import annotations

import json
from pathlib import Path

from tests.acceptance.conftest import Place
from tests.support.machine import machine
from tests.support.reading import records

LOG = """
import wherry
run = wherry.init(project="p")
for n in range(3):
    made = wherry.Artifact("model", "model", description="as logged", metadata={"n": n})
    run.log_artifact(made, aliases=["prod"]).wait(60)
"""
#: Gives aliases and changes what is said of v1, many times.
EDIT = """
import sys, wherry
who = sys.argv[1]
api = wherry.Api({"project": "p"})
for n in range(5):
    found = api.artifact("model:v1")
    found.aliases.append(f"{who}-{n}")
    if who == "one":
        found.description = f"{who} {n}"
    else:
        found.tags.append(f"t{n}")
    found.save()
if who == "one":
    api.artifact("model:v0").delete()
"""
LOOK = """
import json, wherry
api = wherry.Api({"project": "p"})
found = api.artifact("model:v1")
print(json.dumps([found.description, found.tags, sorted(found.aliases), found.metadata]))
print([each.version for each in api.artifacts("model", "model")], api.artifact("model:prod").version)
"""


def test_machines_undo_what_others_said(tmp_path: Path, place: Place) -> None:
    """Two machines change other things of one version at once: nothing is lost, and the record stays."""
    with (
        machine(tmp_path / "one", place.address, place.env) as one,
        machine(tmp_path / "two", place.address, place.env) as two,
    ):
        one.run(LOG)
        before = records(place.objects, "p", "model")[1]
        programs = [one.start(EDIT, "one"), two.start(EDIT, "two")]
        for program in programs:
            program.wait_done()
        said, listed = two.run(LOOK).splitlines()
        assert json.loads(said) == [
            "one 4",
            [f"t{n}" for n in range(5)],
            sorted(f"{who}-{n}" for who in ("one", "two") for n in range(5)),
            {"n": 1},
        ]
        assert listed == "['v2', 'v1'] v2"
        assert records(place.objects, "p", "model")[1] == before
        one.wherry("alias", "p/model:v1", "prod")
        assert "prod" in two.wherry("show", "p/model:v1")
