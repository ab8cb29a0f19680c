"""Four processes train side by side, each with another learning rate, and log a checkpoint an epoch.

    python many_processes.py

Each process has a run and an artifact of its own; they share the machine's daemon and wait for nobody. At the
end the first process looks at all versions, and gives the best of them an alias.
"""

import json
import multiprocessing
import random
import sys

import wherry

PROJECT = "examples"
RATES = {"rate-1e-1": 0.1, "rate-1e-2": 0.01, "rate-1e-3": 0.001, "rate-1e-4": 0.0001}
EPOCHS = 5


def train(name, rate, group):
    """Fit y = 3x + 1; the checkpoint is one file, written anew after each epoch."""
    chance = random.Random(0)
    points = [(x, 3 * x + 1 + chance.gauss(0, 0.1)) for x in (chance.random() for _ in range(500))]
    slope = shift = 0.0
    with wherry.init(project=PROJECT, group=group, job_type="train", name=name) as run:
        for epoch in range(EPOCHS):
            for x, y in points:
                error = slope * x + shift - y
                slope -= rate * error * x
                shift -= rate * error
            loss = sum((slope * x + shift - y) ** 2 for x, y in points) / len(points)
            with open(f"{name}.json", "w") as file:
                json.dump({"slope": slope, "shift": shift}, file)
            metadata = {"epoch": epoch, "loss": loss, "rate": rate}
            checkpoint = wherry.Artifact(name, type="model", metadata=metadata)
            checkpoint.add_file(f"{name}.json", name="model.json")
            run.log_artifact(checkpoint)  # the file may be overwritten from here on
    # The block has ended: all of this run's checkpoints are in the store.


def main(group):
    """Train, then choose."""
    context = multiprocessing.get_context("spawn")
    workers = [
        context.Process(target=train, args=(name, rate, group)) for name, rate in RATES.items()
    ]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    if any(worker.exitcode for worker in workers):
        raise SystemExit("a worker failed")

    api = wherry.Api()
    lasts = [api.artifact(f"{PROJECT}/{name}:latest") for name in RATES]
    best = min(lasts, key=lambda version: version.metadata["loss"])
    best.aliases.append("best-rate")
    best.save()
    print(f"{best.name} is the best: loss {best.metadata['loss']:.3f}")


if __name__ == "__main__":
    main(group=sys.argv[1] if len(sys.argv) > 1 else "rates")
