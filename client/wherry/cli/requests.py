"""``wherry retry``, ``cancel`` and ``acknowledge``: what the user decides about requests."""

from __future__ import annotations

import os
from collections.abc import Sequence

from wherry import messages as pb
from wherry.cli import output, params
from wherry.cli.calls import Daemon, settings
from wherry.cli.command import WrongUsage, command, option
from wherry.cli.words import count_text


@command(
    params.REQUESTS,
    params.ALL.but(help="All that failed, wait or stand still."),
    option(
        "--lane",
        metavar="[PROJECT/]NAME",
        type=params.check_lane,
        help="All of this artifact.",
    ),
    params.PROJECT,
    params.STORE.but(help="All in this store."),
    params.JSON,
)
def retry(
    requests: Sequence[str],
    all_: bool,
    lane: str | None,
    project: str | None,
    store: str | None,
    json: bool,
) -> None:
    """Try again what failed or waits; go on with a changed store.

    A failed request gets a new place at the end of the line; one that waits
    for its store is tried now. An artifact stands still when its store is not
    what it was (emptied, put back from a backup, another one at this
    address): look at the store first, for with this command you say that
    what is there now counts.

      wherry retry 9f3c21aa
      wherry retry --all
      wherry retry --lane cats/model
      wherry retry --store s3://bucket/prefix

    --json gives one object: count (how many were taken), left_out (an array
    of texts, "id: why").
    """
    chosen = settings(project)
    daemon = Daemon(chosen)
    _check_one_way(bool(requests), all_, bool(lane or store))
    if lane or store:
        wanted = pb.SelectRequest(store=_known_store(daemon, store))
        if lane:
            meant = params.target(lane, chosen.project)
            wanted.project, wanted.name = meant.project, meant.name
    else:
        wanted = pb.SelectRequest(all=all_, request_ids=daemon.resolve(requests))
    _call(daemon, "Retry", wanted, "set going again", as_json=json)


@command(params.REQUESTS, params.ALL, params.JSON)
def cancel(requests: Sequence[str], all_: bool, json: bool) -> None:
    """Take back requests that are not being committed yet.

    Their captured files are removed. A request whose version may be in the
    store already can't be cancelled.

      wherry cancel 9f3c21aa 07d1e6b4
      wherry cancel --all

    --json gives one object: count (how many were cancelled), left_out (an
    array of texts, "id: why").
    """
    _check_one_way(bool(requests), all_)
    daemon = Daemon(settings())
    wanted = pb.SelectRequest(all=all_, request_ids=daemon.resolve(requests))
    _call(daemon, "Cancel", wanted, "cancelled", as_json=json)


@command(params.REQUESTS, params.ALL, params.JSON)
def acknowledge(requests: Sequence[str], all_: bool, json: bool) -> None:
    """Mark failures as seen: `wherry status` shows them no more.

    Their captured files are removed after that, so retry first what you
    still want.

      wherry acknowledge 9f3c21aa
      wherry acknowledge --all

    --json gives one object: count (how many were marked), left_out (an
    array of texts, "id: why").
    """
    _check_one_way(bool(requests), all_)
    daemon = Daemon(settings())
    wanted = pb.SelectRequest(all=all_, request_ids=daemon.resolve(requests))
    _call(daemon, "Acknowledge", wanted, "acknowledged", as_json=json)


def _check_one_way(*ways: bool) -> None:
    if sum(ways) != 1:
        other = ", --lane or --store" if len(ways) > 2 else ""
        raise WrongUsage(f"name requests, or say --all{other}; one of these")


def _known_store(daemon: Daemon, given: str | None) -> str:
    """Take an address as ``wherry status`` shows it; else write it in its one form."""
    from wherry.wire.address import normalize_store

    if not given:
        return ""
    if given in {lane.store for lane in daemon.status().stopped}:
        return given
    return normalize_store(given, os.environ)


def _call(
    daemon: Daemon, method: str, wanted: pb.SelectRequest, done: str, *, as_json: bool
) -> None:
    reply = daemon.select(method, wanted)
    left_out = list(reply.left_out)
    if as_json:
        output.print_json({"count": reply.count, "left_out": left_out})
    else:
        output.print_text(f"{count_text(reply.count, 'request')} {done}")
        for line in left_out:
            output.note(f"wherry: not {done}: {line}")
    if left_out:
        raise SystemExit(1)
