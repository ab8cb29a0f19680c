"""``wherry.init``. Owns: which settings a run gets, its id, what is accepted without effect.

Does not own: what a run does (``runs``), the settings' values (``wire.settings``).
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from wherry import active, exits
from wherry.connection import connect
from wherry.errors import BadSetting
from wherry.notices import warn_of_ignored, warn_once
from wherry.run_facts import Given
from wherry.runs import Run
from wherry.wire import names, places
from wherry.wire.address import credentials_from, needs_credentials
from wherry.wire.settings import Settings as Values
from wherry.wire.settings import load

_DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"
_ID_LENGTH = 8
# W&B's names for what we have under another one.
_RENAMED = {"run_job_type": "job_type", "run_project": "project"}
_OF_RUN = ("entity", "run_name", "run_notes", "run_tags")


class Settings:
    """Settings for ``init(settings=…)``, by the names of ``config.toml`` or W&B's.

    Those that are unknown are accepted and warned of once.
    """

    def __init__(self, **values: object) -> None:
        self.__dict__.update(values)

    def __repr__(self) -> str:
        return f"Settings({', '.join(f'{name}={value!r}' for name, value in vars(self).items())})"


def init(
    project: str | None = None,
    entity: str | None = None,
    job_type: str | None = None,
    group: str | None = None,
    name: str | None = None,
    id: str | None = None,  # noqa: A002 (W&B's name)
    config: object = None,
    tags: Sequence[str] | None = None,
    notes: str | None = None,
    dir: str | os.PathLike[str] | None = None,  # noqa: A002 (W&B's name)
    mode: str | None = None,
    store: str | os.PathLike[str] | None = None,
    settings: object = None,
    **more: object,
) -> Run:
    """Begin a run; it becomes ``wherry.run``.

    Args:
        project: "uncategorized" by default.
        entity: stands in the records of what is logged, and is otherwise ignored.
        job_type: what kind of work this is, such as "train".
        group: of the runs that work together.
        name: for people; the id by default.
        id: 8 random letters and digits by default.
        config: a dict or namespace, to be found at ``run.config``.
        tags: free words.
        notes: free text.
        dir: to be found at ``run.dir``.
        mode: "online"; "offline" holds all until ``wherry sync``; "disabled" does nothing.
        store: ``file:///folder``, ``s3://bucket/prefix`` or ``gs://bucket/prefix``; else ``WHERRY_STORE``.
        settings: ``wherry.Settings`` or a dict with further settings.
        **more: accepted, and warned of once.

    Raises:
        UsageError, BadName, BadSetting, BadURI: an argument or a setting can't be used.
        DaemonMissing, DaemonNotStarted: there is no daemon and none can be started.
    """
    warn_of_ignored("init()", more)
    said = _settings_of(settings)
    arguments: dict[str, object] = {
        **said,
        **_given(project=project, run_group=group, job_type=job_type, run_id=id, mode=mode),
        **_given(store=store),
    }
    values = load_settings(arguments)
    names.check_text("job type", values.job_type)
    given = Given(
        id=values.run_id or new_run_id(),
        entity=_checked_entity(entity or _text(said.get("entity"))),
        name=names.check_text("run's name", name or _text(said.get("run_name"))),
        notes=names.check_text("run's notes", notes or _text(said.get("run_notes"))),
        tags=tuple(tags or ()),
        dir=os.fspath(dir) if dir is not None else _working_folder(),
    )
    run = Run(values, given, config)
    if values.mode != "disabled":
        greet(values)
    active.enter(run)
    exits.finish_at_exit()
    return run


def _working_folder() -> str:
    """Where the program runs; "" where that folder was removed meanwhile."""
    try:
        return os.getcwd()
    except FileNotFoundError:
        return ""


def load_settings(arguments: Mapping[str, object]) -> Values:
    """Find the settings that count; in disabled mode without touching the disk more than reading.

    Raises:
        BadSetting, BadURI, BadName: one can't be used.
    """
    environ = os.environ
    mode = str(arguments.get("mode") or environ.get("WHERRY_MODE") or "")
    home = _home_unmade() if mode.lower() == "disabled" else places.home()
    values = load(arguments, environ, home)
    for name in values.unknown:
        warn_once(f"wherry: {home / places.CONFIG} has {name!r}, which this version does not know.")
    if values.mode != "disabled" and not os.access(home, os.W_OK | os.X_OK):
        raise BadSetting(
            f"The home {home} can't be written.", hint="Set WHERRY_HOME to a folder of yours."
        )
    return values


def greet(values: Values) -> None:
    """Meet the daemon, and hand over what it needs for the store. Raises ``CommError``."""
    connection = connect(values.home)
    if needs_credentials(values.store):
        offered = credentials_from(os.environ, values.store)
        connection.offer_credentials(values.store, offered)
    connection.hello()


def new_run_id() -> str:
    """Make 8 random letters and digits; the bits are the system's, in forked children too."""
    number = int.from_bytes(os.urandom(16))
    digits = ""
    while len(digits) < _ID_LENGTH:
        number, digit = divmod(number, len(_DIGITS))
        digits += _DIGITS[digit]
    return digits


def _settings_of(settings: object) -> dict[str, object]:
    if settings is None:
        return {}
    found = settings if isinstance(settings, Mapping) else vars(settings)
    values = {_RENAMED.get(str(name), str(name)): value for name, value in found.items()}
    known = (*Values._fields, *_OF_RUN)
    warn_of_ignored("Settings", [name for name in values if name not in known], 5)
    return values


def _given(**arguments: object) -> dict[str, object]:
    return {name: value for name, value in arguments.items() if value not in (None, "")}


def _home_unmade() -> Path:
    return Path(os.path.expanduser(os.environ.get("WHERRY_HOME") or "~/.wherry"))


def _checked_entity(entity: str | None) -> str | None:
    return names.check_name("entity", entity) if entity else None


def _text(value: object) -> str | None:
    return None if value is None else str(value)
