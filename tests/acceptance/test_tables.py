"""Tables through a real daemon: logged by one program, read by another, and without Wherry."""

from __future__ import annotations

import json

import pytest

from tests.soak import rounds
from tests.support.machine import Machine
from tests.support.reading import FolderObjects, files, records

# The page's last program has one run for each part and puts them together by ``finish_artifact``; here
# one run has them all.
LOG = """
import math
import wherry as wandb

with wandb.init(project="p") as run:
    artifact = wandb.Artifact(name="parallel-artifact", type="dataset")
    for i in range(12):
        table = wandb.Table(columns=["a", "b", "c"], data=[[i, i * 2, 2**i]])
        artifact.add(table, "{}/table_{}".format("parts", i))
    artifact.add(wandb.data_types.PartitionedTable("parts"), "distributed_table")
    artifact["kinds"] = wandb.Table(["n", "s"], [[math.nan, "x"], [None, None]])
    artifact.add(wandb.Table(["n"], [[1], [None]], format="parquet"), "columns")
    run.log_artifact(artifact)
"""

READ = """
import json, os
import wherry as wandb

artifact = wandb.Api().artifact("p/parallel-artifact:v0")
rows = list(artifact.get("distributed_table").iterrows())
kinds = [[str(value) for value in row] for _, row in artifact["kinds"].iterrows()]
one = artifact.get("parts/table_3").get_column("c")
print(json.dumps([rows, kinds, one, artifact.get("columns").data, artifact.get("x"), os.listdir(".")]))
"""


def test_rows_are_not_those_that_were_logged(machine: Machine) -> None:
    """``get`` gives the tables of a version back, parts in order, and leaves nothing in the user's folder."""
    machine.run(LOG)
    rows, kinds, one, columns, absent, left = json.loads(machine.run(READ))
    assert rows == [[i, [i, i * 2, 2**i]] for i in range(12)]
    assert kinds == [["nan", "x"], ["None", "None"]]
    assert (one, columns, absent, left) == ([8], [[1], [None]], None, [])
    objects = FolderObjects(machine.home / "store")
    (record,) = records(objects, "p", "parallel-artifact")
    held = dict(files(objects, "p", record))
    assert json.loads(held["parts/table_3.table.json"])["data"] == [[3, 6, 8]]
    assert json.loads(held["distributed_table.partitioned-table.json"]) == {
        "_type": "partitioned-table",
        "parts_path": "parts",
    }


MANY = """
import resource, sys
import wherry

count = int(sys.argv[1])
table = wherry.Table(columns=["number", "third", "text"])
for number in range(count):
    table.add_data(number, number / 3, "some text")
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
with wherry.init(project="p") as run:
    artifact = wherry.Artifact("many", type="dataset")
    artifact.add(table, "t")
    run.log_artifact(artifact)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak)
"""

READ_MANY = """
import resource
import wherry

table = wherry.Api().artifact("p/many:latest").get("t")
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(sum(row[0] for _, row in table.iterrows()))
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak)
"""


@pytest.mark.soak
@pytest.mark.timeout(900)
def test_a_million_rows_fill_the_memory(machine: Machine) -> None:
    """A million rows are logged and read as a stream, in a few megabytes beside the table itself."""
    count = rounds(100_000, 1_000_000)
    assert int(machine.run(MANY, str(count))) < 30_000  # KiB; loading the client is most of it
    total, peak_kib = map(int, machine.run(READ_MANY).split())
    assert total == count * (count - 1) // 2
    assert peak_kib < 20_000
