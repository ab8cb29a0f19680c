"""Which runs are active in this process, and what stands at ``wherry``'s top level.

Owns: their order; ``wherry.run`` is the last. Does not own: starting and finishing (``starting``,
``runs``).
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from wherry.errors import UsageError
from wherry.notices import warn_once

if TYPE_CHECKING:
    from wherry.artifact import Artifact
    from wherry.reading import StrPath
    from wherry.runs import Run

_runs: list[Run] = []


def current() -> Run | None:
    """Give the run that was started last and is not finished."""
    return _runs[-1] if _runs else None


def all_runs() -> list[Run]:
    """List the active runs, oldest first."""
    return list(_runs)


def enter(run: Run) -> None:
    """Make a run the current one."""
    _runs.append(run)


def leave(run: Run) -> None:
    """Take a run out; the one before it is current again."""
    if run in _runs:
        _runs.remove(run)


def needed(what: str) -> Run:
    """Give the current run. Raises ``UsageError`` where there is none."""
    run = current()
    if run is None:
        raise UsageError(f"There is no active run for {what}.", hint="Call wherry.init() first.")
    return run


def is_disabled() -> bool:
    """Tell whether what is built now would go nowhere."""
    run = current()
    return run.disabled if run else os.environ.get("WHERRY_MODE", "").lower() == "disabled"


# ── at the top level ───────────────────────────────────────────────────────────────────────────────
def finish(exit_code: int | None = None, quiet: bool | None = None) -> None:
    """Finish the current run, if there is one; see ``Run.finish``."""
    run = current()
    if run is not None:
        run.finish(exit_code, quiet)


def log_artifact(
    artifact_or_path: Artifact | StrPath,
    name: str | None = None,
    type: str | None = None,  # noqa: A002 (W&B's name)
    aliases: Sequence[str] | str | None = None,
    tags: Sequence[str] | None = None,
) -> Artifact:
    """Log an artifact by the current run; see ``Run.log_artifact``."""
    return needed("log_artifact").log_artifact(artifact_or_path, name, type, aliases, tags)


def use_artifact(
    artifact_or_name: Artifact | str,
    type: str | None = None,  # noqa: A002 (W&B's name)
    aliases: Sequence[str] | str | None = None,
    use_as: str | None = None,
) -> Artifact:
    """Use an artifact in the current run; see ``Run.use_artifact``."""
    return needed("use_artifact").use_artifact(artifact_or_name, type, aliases, use_as)


def log(data: Mapping[str, object], *_: object, **__: object) -> None:
    """Accept metrics and drop them: they are not Wherry's."""
    del data
    warn_once("wherry: log() drops metrics; Wherry logs artifacts.")


def login(*_: object, **__: object) -> bool:
    """Accept W&B's call; there is nothing to log in to."""
    return True


def log_alone(artifact: Artifact, project: str | None, settings: object) -> None:
    """Log an artifact by the current run, or by one made for it."""
    run = current()
    if run is not None:
        run.log_artifact(artifact)
        return
    from wherry.starting import init

    with init(project=project, job_type="auto", settings=settings) as own:
        own.log_artifact(artifact)
