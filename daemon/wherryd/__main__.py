"""The ``wherryd`` command: one home's daemon, in the foreground.

Owns: arguments, the packages it needs, the instance lock, signals, exit codes. Does not own: the daemon
(``app``). Nothing heavy is imported before the packages were found and the lock is held.
"""

from __future__ import annotations

import argparse
import gc
import os
import signal
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from wherryd.config import Config
    from wherryd.life import Life
    from wherryd.lock import InstanceLock

_NEEDED = (
    "aiobotocore",
    "aiohttp",
    "aiosqlite",
    "anyio",
    "gcloud.aio.auth",
    "google_crc32c",
    "grpc",
    "grpc_health",
    "msgspec",
    "structlog",
    "zstandard",
)
_MOST_FILES = 65_536

_TEXT = """\
Wherry's daemon takes over the artifacts that programs on this machine log, keeps them in a durable
queue, and uploads and commits them in order. Programs start it by themselves; run it by hand for
systemd or in a container:

  wherryd --home /data/wherry --stay
"""
_END = """\
It answers on the socket daemon.sock in the home and writes its log to standard error. SIGTERM makes it
take no new request, end what it is doing (10 s at most) and exit; what is left is done by the next one.
Settings are in config.toml in the home and in WHERRY_… variables; 'wherry doctor' shows them all.
Exit codes: 0 ended as asked, 1 failed, 2 wrong usage.
"""


def main(arguments: list[str] | None = None) -> int:
    """Run the daemon and return its exit code."""
    asked = _parse(arguments)
    missing = [name for name in _NEEDED if _is_missing(name)]
    if missing:
        print(_how_to_install(missing), file=sys.stderr)  # noqa: T201
        return 1
    os.umask(0o077)
    return _run(asked.home, stay=asked.stay)


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="wherryd",
        description=_TEXT,
        epilog=_END,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--home", help="the home, instead of WHERRY_HOME (~/.wherry); on a local disk"
    )
    parser.add_argument(
        "--stay",
        "--foreground",
        action="store_true",
        help="do not end when idle, and end on Ctrl-C; without it Ctrl-C is ignored, "
        "so that one job's end does not take the others' daemon away",
    )
    return parser.parse_args(arguments)


def _run(home: str | None, *, stay: bool) -> int:
    # structlog loads all of rich where it is installed: a fifth of the start, for colours in no log file.
    sys.modules["rich"] = None  # type: ignore[assignment] # as if it were not
    gc.disable()  # what imports make stays; to look for garbage in it takes a tenth of the start

    from wherry.errors import WherryError
    from wherryd.config import read_config
    from wherryd.lock import InstanceLock
    from wherryd.log import configure, get_logger

    configure("info")
    log = get_logger("main")
    if not stay:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        folder = _home(home)
        config = read_config(folder)
        configure(config.log_level)
        for name in config.unknown:
            log.warning("config.toml has a name that means nothing here", name=name)
        for name in config.without_effect:
            log.warning("config.toml sets what has no effect yet", name=name)
        with InstanceLock(folder) as lock:
            _serve(config, lock, stay=stay)
    except WherryError as error:
        log.error("not started", reason=str(error))  # noqa: TRY400  (the user's to mend, no defect)
        return 1
    except Exception:
        log.exception("failed")
        return 1
    return 0


def _home(home: str | None) -> Path:
    from wherry.wire import places

    return places.home({**os.environ, "WHERRY_HOME": home} if home else None)


def _serve(config: Config, lock: InstanceLock, *, stay: bool) -> None:
    import anyio
    import msgspec

    from wherryd.app import serve

    gc.freeze()
    gc.enable()
    config = _fitting(config, _raise_file_limit())
    endings = [signal.SIGTERM, *([signal.SIGINT, signal.SIGHUP] if stay else [])]

    async def leave_on_signal(life: Life) -> None:
        with anyio.open_signal_receiver(*endings) as received:
            async for number in received:
                life.leave(signal.Signals(number).name)

    if stay:
        config = msgspec.structs.replace(config, idle_timeout_s=0.0)
    anyio.run(serve, config, leave_on_signal, lock.is_ours)


def _fitting(config: Config, files: int) -> Config:
    """Let no more transfers run at once than there are files for."""
    import msgspec

    from wherryd.config import most_transfers
    from wherryd.log import get_logger

    most = most_transfers(config.max_transfers, files)
    if most == config.max_transfers:
        return config
    get_logger("main").warning(
        "fewer transfers at once than max_transfers: too few open files are allowed",
        most=most,
        files=files,
    )
    return msgspec.structs.replace(config, max_transfers=most)


def _raise_file_limit() -> int:
    """Allow more open files, and return how many; each connection and each spool file takes one."""
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _MOST_FILES if hard == resource.RLIM_INFINITY else min(hard, _MOST_FILES)
    if soft == resource.RLIM_INFINITY:
        return _MOST_FILES
    if soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    return max(soft, wanted)


def _is_missing(name: str) -> bool:
    try:
        return find_spec(name) is None
    except ModuleNotFoundError:  # not even what it is a part of is there
        return True


def _how_to_install(missing: list[str]) -> str:
    return (
        f"wherryd needs packages that are not installed: {', '.join(missing)}.\n"
        "  pip install 'wherry[daemon]'"
    )


if __name__ == "__main__":
    sys.exit(main())
