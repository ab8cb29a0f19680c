"""``wherry status`` and ``wherry queue``: what there is to do. They change nothing."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from wherry import messages as pb
from wherry.cli import output, params, states
from wherry.cli.calls import Daemon, has_queue, settings
from wherry.cli.command import command, option
from wherry.cli.daemon import daemon_json, daemon_text
from wherry.cli.fullness import spool_json, spool_sentences
from wherry.cli.words import count_text, local_time, printable, progress_text, short_ids

_ANY_STATE = (*states.NOT_ENDED, *states.ENDED)


@command(params.JSON)
def status(json: bool) -> None:
    """What is not done, and why.

    Shows the daemon, lanes that stand still, and each request that is not
    done or has failed and was not acknowledged: how far it is, why it waits,
    when it is tried again, and what to do about it. Starts the daemon if
    none runs and anything was ever logged in this home.

      wherry status
      wherry status --json | jq '.requests[] | select(.error)'

    --json gives one object: daemon (as `wherry daemon status --json` has
    it), counts (number of requests by state), requests (1,000 at most,
    failures before the others; the keys are those of `wherry queue --json`),
    stopped (lanes that wait for
    `wherry retry`: store, project, name, reason), set_aside (files of damaged
    queues, whose requests are not done), locked (who holds the queue, so that
    nothing can be logged now; else empty), runs (waiting: of how many
    something is not in the store yet, held: by offline mode, reason), spool
    (bytes, files, quota_bytes,
    quota_files; of those unlogged_bytes and unlogged_files, captured by
    programs and not logged yet, resting_bytes and resting_files, of requests
    that are held or failed, and sent_bytes, of objects that are not whole in
    the store; bytes_per_s, seconds_left until the rest is sent, null where
    nothing moves; waiting, programs that wait for room; null where no daemon
    was asked).
    """
    chosen = settings()
    daemon = Daemon(chosen)
    if daemon.running() is None and not has_queue(chosen):
        found = _nothing()
    else:
        found = daemon.status()
    if json:
        output.print_json(
            {
                "daemon": daemon_json(found.daemon, chosen.home),
                "counts": {state: found.counts.get(state, 0) for state in _ANY_STATE},
                "requests": [states.request_json(state) for state in found.requests],
                "stopped": [states.lane_json(lane) for lane in found.stopped],
                "set_aside": list(found.set_aside),
                "locked": found.locked,
                "runs": states.runs_json(found.runs),
                "spool": spool_json(found),
            }
        )
    else:
        _print_status(found)


@command(
    option(
        "-s",
        "--state",
        action="append",
        default=[],
        choices=_ANY_STATE,
        metavar="STATE",
        help="Only requests in this state; may be given again.",
    ),
    params.ONLY_PROJECT,
    params.ONLY_NAME,
    option(
        "--limit",
        metavar="COUNT",
        type=params.count_from(1),
        default=1000,
        help="At most so many. [default: %(default)s]",
    ),
    params.JSON,
    option("--jsonl", action="store_true", help="Print JSON lines, an object a line."),
)
def queue(
    state: Sequence[str],
    project: str | None,
    name: str | None,
    limit: int,
    json: bool,
    jsonl: bool,
) -> None:
    """List the requests that the daemon knows, oldest first.

    Without --state it lists all that are not done, and failures that were
    not acknowledged. States: held (by offline mode), accepted (being
    hashed), prepared (being uploaded), uploaded (waiting for its turn),
    sending (being committed), settled (committed, aliases not moved yet),
    done, failed, cancelled.

      wherry queue --state failed
      wherry queue --project cats --name model --json

    --json gives an array, an object a line: request (id), state, project,
    name, type, store, run, place (in line), ahead (how many of its lane come
    before it), kind (log, upsert, finish), version, digest, entries, size,
    bytes_done, error (class), reason, next_try, accepted, acknowledged. What is
    not known is null.
    """
    chosen = settings()
    daemon = Daemon(chosen)
    found: Iterable[pb.RequestState] = ()
    if has_queue(chosen):
        found = daemon.requests(state, project or "", name or "", limit)
    if jsonl:
        output.print_lines(map(states.request_json, found))
    elif json:
        output.print_array(map(states.request_json, found))
    else:
        _print_queue(list(found), limit)


def _nothing() -> pb.StatusReply:
    return pb.StatusReply()


def _print_status(found: pb.StatusReply) -> None:
    output.print_text(daemon_text(found.daemon, found.started))
    if found.locked:
        output.print_text("\nNothing can be logged now:")
        for line in found.locked.splitlines():
            output.print_text(f"  {printable(line.strip())}")
    for line in states.set_aside_sentences(found.set_aside):
        output.print_text(f"\n{line}" if line.startswith("A ") else f"  {line}")
    for lane in found.stopped:
        output.print_text(f"\n{states.artifact_text(lane)} stands still:")
        for line in states.lane_sentences(lane):
            output.print_text(f"  {line}")
    if found.requests:
        output.print_text()
    short = short_ids(state.request_id for state in found.requests)
    output.print_table(
        ("request", "artifact", "size>", "ahead>", "what happens"),
        (_status_row(state, short[state.request_id]) for state in found.requests),
    )
    more = states.not_shown(found)
    if more:
        output.print_text(f"… and {more:,} more that are not done: wherry queue")
    output.print_text(f"\n{states.counts_text(states.shown_counts(found))}")
    for line in (*spool_sentences(found), *states.runs_sentences(found.runs)):
        output.print_text(line)


def _status_row(state: pb.RequestState, short_id: str) -> Sequence[str]:
    told = [states.headline(state), *states.sentences(state, short_id)]
    return (
        short_id,
        states.artifact_text(state),
        progress_text(state.bytes_done, state.size),
        str(state.ahead or ""),
        f"{told[0]}: {' '.join(told[1:])}" if told[1:] else told[0],
    )


def _print_queue(found: Sequence[pb.RequestState], limit: int) -> None:
    if not found:
        output.print_text("no such requests")
        return
    short = short_ids(state.request_id for state in found)
    output.print_table(
        ("place>", "request", "artifact", "size>", "logged", "state"),
        (_queue_row(state, short[state.request_id]) for state in found),
    )
    if len(found) == limit:
        output.note(f"{count_text(limit, 'request')} shown; --limit shows more")


def _queue_row(state: pb.RequestState, short_id: str) -> Sequence[str]:
    return (
        str(state.place or ""),
        short_id,
        states.artifact_text(state),
        progress_text(state.bytes_done, state.size),
        local_time(state.accepted),
        states.headline(state),
    )
