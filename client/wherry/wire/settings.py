"""Settings: arguments win over environment, that over ``config.toml``, that over defaults.

Owns: every setting's name, values, default, and where the value that counts came from
(docs/promises.md, "Settings and places"). Does not own: what a setting does.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple, cast

from wherry.errors import BadSetting, UsageError
from wherry.wire import places
from wherry.wire.names import check_name

#: What is read and checked, and changes nothing yet: whoever sets it is told.
WITHOUT_EFFECT = frozenset({"capture"})


class Settings(NamedTuple):
    """What counts, each under its name in ``config.toml``."""

    store: str  # normalized address
    project: str
    run_group: str | None
    job_type: str | None
    run_id: str | None
    mode: str  # online, offline, disabled
    finish: str  # wait, detach
    durability: str  # process, power
    home_lasts: bool | None  # None: to be found out
    finish_timeout: float  # seconds
    daemon: str | None  # shell-quoted command; None: to be found
    capture: str  # auto, copy
    spool_quota_bytes: int | None  # None: half of what is free
    spool_quota_inodes: int | None  # likewise
    spool_timeout_s: float
    cache_quota_bytes: int | None  # None: a quarter of what is free
    reference_timeout_s: float
    max_transfers: int
    max_bandwidth: int | None  # bytes per second; None: no limit
    idle_timeout_s: float
    log_level: str  # debug, info, warning, error
    home: Path
    sources: Mapping[
        str, str
    ]  # by name: "argument", a variable, the path of config.toml, "default"
    unknown: tuple[str, ...]  # names in config.toml that this version does not know

    @property
    def without_effect(self) -> tuple[str, ...]:
        """What somebody has set and nothing heeds yet."""
        return tuple(sorted(n for n in WITHOUT_EFFECT if self.sources[n] != "default"))


def load(arguments: Mapping[str, object], environ: Mapping[str, str], home: Path) -> Settings:
    """Find the value of every setting.

    Args:
        arguments: by the settings' names; None and "" say nothing.
        environ: ``WHERRY_…``, and for the store ``AWS_…``; "" says nothing.
        home: where ``config.toml`` may lie.

    Raises:
        BadSetting: a value can't be used; names where it stands and what is allowed.
        UsageError: likewise, for an argument that is a name or a store.
    """
    file = home / places.CONFIG
    written = _read(file)
    values: dict[str, object] = {"home": home}
    sources: dict[str, str] = {}
    for name, setting in _SETTINGS.items():
        source, value = _given(name, setting, arguments, environ, file, written)
        sources[name] = source
        values[name] = _parsed(name, setting, source, value)
    values["store"] = _store(cast("str | None", values["store"]), sources["store"], environ, home)
    values["sources"] = sources
    values["unknown"] = tuple(sorted(set(written) - set(_SETTINGS)))
    return Settings(**values)  # type: ignore[arg-type] # each parser gives its setting's type


class _Setting(NamedTuple):
    parse: Callable[[object], object]  # ValueError says what is allowed
    default: object = None
    in_environment: bool = False


def _given(
    name: str,
    setting: _Setting,
    arguments: Mapping[str, object],
    environ: Mapping[str, str],
    file: Path,
    written: Mapping[str, object],
) -> tuple[str, object]:
    variable = f"WHERRY_{name.upper()}"
    places_in_order = (
        ("argument", arguments.get(name)),
        (variable, environ.get(variable) if setting.in_environment else None),
        (str(file), written.get(name)),
    )
    said = (place for place in places_in_order if place[1] not in (None, ""))
    return next(said, ("default", None))


def _read(file: Path) -> dict[str, object]:
    try:
        text = file.read_text(encoding="utf-8")
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError) as error:
        raise BadSetting(f"{file} can't be read: {error}.") from error
    import tomllib

    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise BadSetting(f"{file} is not TOML: {error}.", hint="Mend it or remove it.") from error


def _parsed(name: str, setting: _Setting, source: str, value: object) -> object:
    if value is None:
        return setting.default
    try:
        return setting.parse(value)
    except UsageError as error:
        raise _as_setting(source, name, error) from error
    except ValueError as error:
        raise BadSetting(f"{_where(source, name)} is {value!r}.", hint=f"Use {error}.") from error


def _store(given: str | None, source: str, environ: Mapping[str, str], home: Path) -> str:
    from wherry.wire.address import normalize_store

    try:
        return normalize_store(given or str(home / places.STORE), environ)
    except UsageError as error:
        raise _as_setting(source, "store", error) from error


def _as_setting(source: str, name: str, error: UsageError) -> UsageError:
    if source == "argument":
        return error
    return BadSetting(f"{_where(source, name)}: {error.message}", hint=error.hint)


def _where(source: str, name: str) -> str:
    if source == "argument":
        return name
    return source if source.startswith("WHERRY_") else f"{name} in {source}"


def _text(value: object) -> str:
    if isinstance(value, (str, os.PathLike)):
        return os.fspath(value)
    raise ValueError("a string")


def _name(kind: str) -> Callable[[object], str]:
    return lambda value: check_name(kind, _text(value))


def _one_of(*allowed: str) -> Callable[[object], str]:
    def parse(value: object) -> str:
        if isinstance(value, str) and value.lower() in allowed:
            return value.lower()
        raise ValueError(f"one of: {', '.join(allowed)}")

    return parse


def _yes_or_no(value: object) -> bool:
    if isinstance(value, bool):
        return value
    return _one_of("yes", "no")(value) == "yes"


def _seconds(value: object) -> float:
    try:
        seconds = float(value) if isinstance(value, (str, int, float)) else -1.0
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds < float("inf"):
        raise ValueError("a number of seconds, 0 or more")
    return seconds


def _count(value: object) -> int:
    text = str(value)
    if not (text.isascii() and text.isdigit()) or int(text) < 1:
        raise ValueError("a whole number, 1 or more")
    return int(text)


def read_bytes(value: object) -> int:
    """Read a number of bytes, such as 20000000 or "1.5 GiB". ``ValueError`` says what is allowed."""
    import re
    from decimal import Decimal

    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(?:([kKMGT])(i?)B?|B)?", str(value), re.ASCII)
    power = "KMGT".index(found[2].upper()) + 1 if found and found[2] else 0
    unit = (1024 if found and found[3] else 1000) ** power
    size = int(Decimal(found[1]) * unit) if found else 0
    if size < 1:
        raise ValueError("a number of bytes above 0, such as 20000000 or '20 MB' or '1.5 GiB'")
    return size


def read_size(value: object) -> int:
    """Read a number of bytes likewise, which may be 0."""
    return 0 if str(value) == "0" else read_bytes(value)


def _bytes_a_second(value: object) -> int:
    try:
        return read_bytes(str(value).removesuffix("/s"))
    except ValueError as error:
        raise ValueError("bytes a second above 0, such as 20000000 or '200 MB/s'") from error


_SETTINGS = {
    "store": _Setting(_text, in_environment=True),
    "project": _Setting(_name("project"), "uncategorized", in_environment=True),
    "run_group": _Setting(_name("group"), in_environment=True),
    "job_type": _Setting(_text, in_environment=True),
    "run_id": _Setting(_name("run id"), in_environment=True),
    "mode": _Setting(_one_of("online", "offline", "disabled"), "online", in_environment=True),
    "finish": _Setting(_one_of("wait", "detach"), "wait", in_environment=True),
    "durability": _Setting(_one_of("process", "power"), "process", in_environment=True),
    "home_lasts": _Setting(_yes_or_no, in_environment=True),
    "finish_timeout": _Setting(_seconds, 3600.0, in_environment=True),
    "daemon": _Setting(_text, in_environment=True),
    "capture": _Setting(_one_of("auto", "copy"), "auto"),
    "spool_quota_bytes": _Setting(read_bytes),
    "spool_quota_inodes": _Setting(_count),
    "spool_timeout_s": _Setting(_seconds, 60.0),
    "cache_quota_bytes": _Setting(read_size),
    "reference_timeout_s": _Setting(_seconds, 1800.0),
    "max_transfers": _Setting(_count, 16),
    "max_bandwidth": _Setting(_bytes_a_second),
    "idle_timeout_s": _Setting(_seconds, 600.0),
    "log_level": _Setting(_one_of("debug", "info", "warning", "error"), "info"),
}

#: Settings that are read from the environment …
IN_ENVIRONMENT = tuple(name for name, setting in _SETTINGS.items() if setting.in_environment)
#: … and those that are read from config.toml only.
FILE_ONLY = tuple(name for name in _SETTINGS if name not in IN_ENVIRONMENT)
