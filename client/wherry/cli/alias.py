"""``wherry alias``: what versions are called."""

from __future__ import annotations

from wherry import messages as pb
from wherry.cli import output, params
from wherry.cli.calls import Daemon, settings
from wherry.cli.command import WrongUsage, command, option


@command(
    params.ARTIFACT,
    option(
        "aliases",
        nargs="+",
        metavar="ALIAS...",
        type=params.check_moved_alias,
        help="What the version is to be called.",
    ),
    option(
        "--remove", action="store_true", help="Take the aliases away, whichever version has them."
    ),
    params.PROJECT,
    params.STORE,
    params.JSON,
)
def alias(
    artifact: str,
    aliases: list[str],
    remove: bool,
    project: str | None,
    store: str | None,
    json: bool,
) -> None:
    """Give a version aliases, or take them away.

    An alias is at one version: given to another, it leaves the one that had
    it. What you say here counts at once, and stays: only a version that is
    logged from now on takes an alias over, if it is logged with it.

      wherry alias model:v3 best prod
      wherry alias --remove model best

    --json gives an array, a version an object that was changed: name,
    version ("v3"), aliases.
    """
    daemon = Daemon(settings(project, store))
    meant = params.target(artifact, daemon.settings.project)
    if remove and ":" in artifact:
        raise WrongUsage(
            "--remove takes aliases from whichever version has them: name the artifact alone"
        )
    if remove:
        found = [daemon.version(meant.project, meant.name, each) for each in aliases]
        changes = [pb.EditVersionRequest(remove_aliases=[each]) for each in aliases]
    else:
        found = [daemon.version(meant.project, meant.name, meant.version)]
        changes = [pb.EditVersionRequest(add_aliases=aliases)]
    changed = [daemon.edit(*pair) for pair in zip(found, changes, strict=True)]
    if json:
        output.print_array(map(_json, changed))
        return
    rows = [(f"{each.name}:v{each.version}", " ".join(each.aliases)) for each in changed]
    output.print_table(("version", "aliases"), rows)


def _json(version: pb.Version) -> dict[str, object]:
    return {
        "name": version.name,
        "version": f"v{version.version}",
        "aliases": list(version.aliases),
    }
