"""Five Ray workers put a table each into one artifact, and a last run makes it a version.

Needs Ray: pip install 'wherry[daemon]' ray

The program is one that was written for W&B, but for its first import.
"""

import time

import ray

import wherry as wandb

ray.init()

artifact_type = "dataset"
artifact_name = "parallel-artifact"
table_name = "distributed_table"
parts_path = "parts"
num_parallel = 5

# Each batch of writers has a group name of its own: it names the draft that they write to.
group_name = f"writer-group-{round(time.time())}"


@ray.remote
def train(i):
    """One writer: adds one table to the draft."""
    with wandb.init(group=group_name) as run:
        artifact = wandb.Artifact(name=artifact_name, type=artifact_type)
        table = wandb.Table(columns=["a", "b", "c"], data=[[i, i * 2, 2**i]])
        artifact.add(table, f"{parts_path}/table_{i}")
        run.upsert_artifact(artifact)


# When a writer's `with` block has ended, its table is in the draft, for all machines to see.
ray.get([train.remote(i) for i in range(num_parallel)])

with wandb.init(group=group_name) as run:
    artifact = wandb.Artifact(artifact_name, type=artifact_type)
    # A table that is made of all tables below the folder.
    artifact.add(wandb.data_types.PartitionedTable(parts_path), table_name)
    # From now on nothing can be added to this version.
    run.finish_artifact(artifact)
