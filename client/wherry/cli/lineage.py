"""``wherry lineage``: what a version was made of, and what was made of it."""

from __future__ import annotations

from wherry.cli import output, params
from wherry.cli.calls import Daemon, settings
from wherry.cli.command import WrongUsage, command, option
from wherry.cli.words import printable
from wherry.lineage import trace

#: A tree that goes on for thousands of checkpoints helps nobody; the other forms are for programs.
_DEPTH = 10


@command(
    params.ARTIFACT,
    option(
        "--depth",
        type=params.count_from(0),
        metavar="RUNS",
        help=f"How many runs far; 0 for as far as it goes. {_DEPTH} for the tree, else 0.",
    ),
    option("--dot", action="store_true", help="Print it for Graphviz: dot -Tsvg."),
    option("--mermaid", action="store_true", help="Print it for Mermaid."),
    option(
        "--fresh",
        action="store_true",
        help="Look at the store now, however short ago that was.",
    ),
    option(
        "--rebuild",
        action="store_true",
        help="Read the whole store anew, whatever this machine knows of it.",
    ),
    params.PROJECT,
    params.STORE,
    params.JSON,
)
def lineage(
    artifact: str,
    depth: int | None,
    dot: bool,
    mermaid: bool,
    fresh: bool,
    rebuild: bool,
    project: str | None,
    store: str | None,
    json: bool,
) -> None:
    """Show what a version was made of, and what was made of it.

    Runs say what they use with use_artifact, and what they log. A run that
    logs what it used is shown as its user only.

      wherry lineage model:v3
      wherry lineage cats/model:best --dot | dot -Tsvg > lineage.svg

    --json gives one object: versions, an array of project, name, version
    ("v3"), type, created, deleted, steps (how many runs away; below 0 towards
    its sources) and sources (what it was made of), first the one that was
    asked for; runs, an array of project, id, name, group, job_type, started,
    ended, used, logged; and truncated: whether there is more, farther away.
    """
    if json + dot + mermaid > 1:
        raise WrongUsage("--json, --dot and --mermaid exclude each other")
    daemon = Daemon(settings(project, store))
    meant = params.target(artifact, daemon.settings.project)
    version = daemon.version(meant.project, meant.name, meant.version)
    is_tree = not (json or dot or mermaid)
    far = (_DEPTH if is_tree else 0) if depth is None else depth
    chosen = daemon.settings
    found = trace(chosen.home, chosen.store, version, far, rebuild=rebuild, fresh=fresh)
    if json:
        output.print_json(found.as_dict())
    else:
        shown = found.as_dot() if dot else found.as_mermaid() if mermaid else str(found)
        for line in shown.splitlines():
            output.print_text(printable(line))
