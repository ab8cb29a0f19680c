"""Wherry logs machine-learning artifacts without making the training wait.

``import wherry`` replaces ``import wandb`` for artifacts. Importing it loads nothing heavy: what is
named here is loaded at its first use.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

from wherry import (
    errors,
    exits,  # noqa: F401 (its hook has to be registered before the program's own)
)
from wherry.errors import CommError, Error, UsageError
from wherry.wire import VERSION
from wherry.wire.late import importing

if TYPE_CHECKING:
    from wherry import data_types
    from wherry.active import finish, log, log_artifact, login, use_artifact
    from wherry.api import Api
    from wherry.artifact import Artifact
    from wherry.data_types import Table
    from wherry.run_config import config
    from wherry.runs import Run
    from wherry.starting import Settings, init

    run: Run | None

__all__ = [
    "Api",
    "Artifact",
    "CommError",
    "Error",
    "Run",
    "Settings",
    "Table",
    "UsageError",
    "__version__",
    "config",
    "data_types",
    "errors",
    "finish",
    "init",
    "log",
    "log_artifact",
    "login",
    "run",
    "use_artifact",
]

__version__ = VERSION

# Where each name is. No module may bear the name of something else here: importing it would put the
# module in its place.
_PLACES = {
    "Api": "api",
    "Artifact": "artifact",
    "Run": "runs",
    "Settings": "starting",
    "Table": "data_types",
    "config": "run_config",
    "finish": "active",
    "init": "starting",
    "log": "active",
    "log_artifact": "active",
    "login": "active",
    "use_artifact": "active",
}


def __getattr__(name: str) -> object:
    if name == "run":
        return _current_run()
    if name == "data_types":
        return _load(name)
    if name not in _PLACES:
        raise AttributeError(f"module 'wherry' has no attribute {name!r}")
    value = globals()[name] = getattr(_load(_PLACES[name]), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def _load(module: str) -> object:
    with importing:  # a fork waits for it
        return import_module(f"wherry.{module}")


def _current_run() -> object:
    current = getattr(_load("active"), "current")  # noqa: B009 (a module, as far as types go)
    return current()
