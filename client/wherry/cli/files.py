"""``wherry put`` and ``wherry get``: files into a store, and back."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

from wherry import messages as pb
from wherry.cli import output, params, states
from wherry.cli.calls import Daemon, settings
from wherry.cli.command import WrongUsage, command, option
from wherry.cli.progress import choose_progress
from wherry.cli.waiting import wait_ended
from wherry.cli.words import count_text, span_text
from wherry.progress import size_text

if TYPE_CHECKING:
    from wherry.artifact import Artifact
    from wherry.wire.settings import Settings
_JOB_TYPE = "cli_put"
_LOOK_S = 30.0


@command(
    option("path", metavar="PATH", help="A file, a folder or a URI."),
    option(
        "-n",
        "--name",
        metavar="NAME",
        type=params.check_lane,
        help="The artifact's name, or PROJECT/NAME.",
    ),
    params.TYPE.but(
        default="dataset",
        help="The artifact's type; a name belongs to one type for ever. [default: %(default)s]",
    ),
    option("-d", "--description", metavar="TEXT", help="Free text."),
    option(
        "-a",
        "--alias",
        action="append",
        default=[],
        metavar="ALIAS",
        type=params.check_new_alias,
        help="An alias to move to this version; more than one may be given.",
    ),
    option("--metadata", metavar="JSON", type=params.read_metadata, help="A JSON object."),
    option(
        "--policy",
        choices=("mutable", "immutable"),
        metavar="mutable|immutable",
        default="mutable",
        help="immutable: the files will stay; copy nothing. [default: %(default)s]",
    ),
    params.WAIT,
    params.TIMEOUT,
    params.PROJECT,
    params.STORE,
    params.JSON,
)
def put(
    path: str,
    name: str | None,
    type_: str,
    description: str | None,
    alias: Sequence[str],
    metadata: dict[str, object] | None,
    policy: str,
    wait: bool | None,
    timeout_s: float | None,
    project: str | None,
    store: str | None,
    json: bool,
) -> None:
    """Log a file or a folder as a new version of an artifact.

    The bytes are captured as they are now. Then it waits, with progress,
    until the version is committed, and prints its name; with --no-wait it
    prints the request's id and leaves the rest to the daemon (which is the
    default where WHERRY_FINISH is detach); `wherry wait` tells then if it
    fails. If the content equals that of the artifact's highest version,
    that version is what it becomes. The name is that of the file or folder
    if none is given.

      wherry put model.pt --name cats/model --type model --alias best
      wherry put data/ --name pets --metadata '{"source": "camera 3"}'
      wherry put model.pt --no-wait

    --json gives the keys of one object of `wherry queue --json`.
    """
    if not path:
        raise WrongUsage("the path is empty; name a file or a folder")
    meant = _meant(path, name, project)
    chosen = settings(meant[0], store)
    artifact = _build(path, meant[1], type_, description, metadata, policy)
    request_id = _log(artifact, alias, chosen)
    if request_id is None:
        output.note("wherry: disabled mode: nothing was logged")
        return
    shall_wait = chosen.finish == "wait" if wait is None else wait
    limit_s = timeout_s if shall_wait else 0.0
    state = _follow(Daemon(chosen), request_id, limit_s, quiet=json)
    if json:
        output.print_json(states.request_json(state))
    _tell(state, limit_s, waited=shall_wait, as_json=json)


@command(
    params.ARTIFACT,
    option(
        "--root",
        metavar="FOLDER",
        type=params.check_folder,
        help="The folder to write to; ./artifacts/NAME:VERSION otherwise.",
    ),
    params.TYPE,
    params.PROJECT,
    params.STORE,
    params.JSON,
)
def get(
    artifact: str,
    root: str | None,
    type_: str | None,
    project: str | None,
    store: str | None,
    json: bool,
) -> None:
    """Download a version's files, and print the folder that they are in.

    Every file's digest is checked before it gets its name. VERSION is v3, an
    alias, or latest, which it is if none is named.

      wherry get cats/model:best
      wherry get model:v3 --root /tmp/model

    --json gives one object: project, name, version, type, path (of the
    folder), entries (how many), size.
    """
    from wherry.api import Api

    overrides = {key: value for key, value in (("project", project), ("store", store)) if value}
    found = Api(overrides).artifact(artifact, type_)
    folder = found.download(root)
    if json:
        output.print_json(_download_json(found, folder))
        return
    output.print_text(folder)
    what = f"{count_text(found.file_count, 'file')}, {size_text(found.size)}"
    output.note(f"wherry: {found.qualified_name}: {what}")


def _meant(path: str, name: str | None, project: str | None) -> tuple[str | None, str]:
    """Find the project, None for that of the settings, and the name."""
    if name is None:
        return project, os.path.basename(os.path.abspath(path))
    given, _, plain = name.rpartition("/")
    if given and project and given != project:
        raise WrongUsage(f"--name says project {given}, --project says {project}")
    return given or project, plain


def _build(
    path: str,
    name: str,
    type_: str,
    description: str | None,
    metadata: dict[str, object] | None,
    policy: str,
) -> Artifact:
    from wherry.artifact import Artifact

    artifact = Artifact(name, type_, description=description, metadata=metadata)
    if "://" in path:
        artifact.add_reference(path)
    elif os.path.isdir(path):
        artifact.add_dir(path, policy=policy)
    else:
        artifact.add_file(path, policy=policy)
    return artifact


def _log(artifact: Artifact, aliases: Sequence[str], chosen: Settings) -> str | None:
    """Hand the artifact over; return its request's id, None in disabled mode."""
    from wherry.starting import init

    run = init(
        project=chosen.project,
        store=chosen.store,
        job_type=chosen.job_type or _JOB_TYPE,
        settings={"finish": "detach"},  # waiting is ours, with more to see
    )
    with run:
        run.log_artifact(artifact, aliases=aliases)
    return artifact._life.request_id  # noqa: SLF001 (users have no need of it before the commit)


def _follow(
    daemon: Daemon, request_id: str, limit_s: float | None, *, quiet: bool
) -> pb.RequestState:
    if limit_s == 0.0:
        return next(daemon.wait([request_id], _LOOK_S))
    outcome = wait_ended(daemon, [request_id], limit_s, choose_progress(quiet=quiet))
    return outcome.states[0] if outcome.states else next(daemon.wait([request_id], _LOOK_S))


def _tell(state: pb.RequestState, limit_s: float | None, *, waited: bool, as_json: bool) -> None:
    """Say what became of it; exit with 1 where it is not what was asked for."""
    if state.state in ("failed", "cancelled"):
        output.note(f"wherry: {states.outcome_text(state)}")
        if waited:  # unwaited, the code would tell how fast the daemon was
            raise SystemExit(1)
    elif state.state == "held":
        output.note(f"wherry: {states.artifact_text(state)} is held by offline mode: wherry sync")
    elif waited and state.state != "done":
        output.note(f"wherry: {states.outcome_text(state)}")
        output.note(
            f"wherry: not committed within {span_text(limit_s or 0)}; the daemon goes on with it"
        )
        raise SystemExit(1)
    if not as_json:
        # Unwaited, it is the id even where the version is known by now: scripts hand it to `wait`.
        known = waited and state.state == "done"
        output.print_text(states.outcome_text(state) if known else state.request_id)


def _download_json(found: Artifact, folder: str) -> dict[str, object]:
    return {
        "project": found.project,
        "name": found.name.rpartition(":")[0],
        "version": found.version,
        "type": found.type,
        "path": os.path.abspath(folder),
        "entries": found.file_count,
        "size": found.size,
    }
