"""``wherry wait``, ``sync`` and ``drain``: commands that return when something has ended."""

from __future__ import annotations

import time
from collections.abc import Sequence

from wherry import messages as pb
from wherry.cli import output, params, states
from wherry.cli.calls import Daemon, has_queue, settings
from wherry.cli.command import WrongUsage, command
from wherry.cli.progress import choose_progress
from wherry.cli.waiting import LOOK_S, Outcome, wait_ended
from wherry.cli.words import count_text, span_text

_NAMED = 20
#: Between two looks at the records of runs.
_RUNS_S, _RUNS_LONGEST_S = 0.1, 3.0


@command(
    params.REQUESTS,
    params.ALL.but(help="All that are not done now."),
    params.TIMEOUT,
    params.JSON,
)
def wait(requests: Sequence[str], all_: bool, timeout_s: float | None, json: bool) -> None:
    """Wait until requests are committed.

    Prints the version that each became. The exit code is 1 if one failed,
    was cancelled, is held by offline mode, or the time was over first; the
    daemon goes on all the same.

      wherry wait 9f3c21aa
      wherry wait --all --timeout 10m

    --json gives one object: committed, failed, left (arrays of requests,
    with the keys of `wherry queue --json`), timed_out.
    """
    if bool(requests) == all_:
        raise WrongUsage("name requests, or say --all; one of these")
    chosen = settings()
    daemon = Daemon(chosen)
    begun_s = time.monotonic()
    look_s = None if timeout_s is None else max(timeout_s, LOOK_S)
    ids = daemon.resolve(requests, look_s)
    if all_ and has_queue(chosen):
        ids = [state.request_id for state in daemon.whole_list(states.WORK, timeout_s=look_s)]
    left_s = None if timeout_s is None else max(begun_s + timeout_s - time.monotonic(), 0)
    outcome = wait_ended(daemon, ids, left_s, choose_progress(quiet=json))
    if json:
        output.print_json(_outcome_json(outcome))
    elif ids:
        _print_outcome(outcome, timeout_s)
    else:
        output.print_text("nothing is left to do")
    if not outcome.is_good:
        raise SystemExit(1)


@command(
    params.ONLY_PROJECT,
    params.ONLY_NAME,
    params.WAIT.but(default=True, help="Wait until all are committed. [default: wait]"),
    params.TIMEOUT,
    params.JSON,
)
def sync(
    project: str | None, name: str | None, wait: bool, timeout_s: float | None, json: bool
) -> None:
    """Send what offline mode has held.

    The requests take their places in line in the order in which they were
    logged. One that fails stops no other; the exit code is 1 if one did, or
    the time was over first.

      wherry sync
      wherry sync --project cats --no-wait

    --json gives one object: synced (how many), and as `wherry wait --json`:
    committed, failed, left, timed_out.
    """
    chosen = settings()
    daemon = Daemon(chosen)
    synced, ids = _sync(daemon, project, name) if has_queue(chosen) else (0, [])
    outcome = Outcome([], [], [], timed_out=False)
    if wait:
        outcome = wait_ended(daemon, ids, timeout_s, choose_progress(quiet=json))
    if json:
        output.print_json({"synced": synced, **_outcome_json(outcome)})
    else:
        output.print_text(f"{count_text(synced, 'request')} sent on the way")
        _print_outcome(outcome, timeout_s)
    if not outcome.is_good:
        raise SystemExit(1)


@command(params.TIMEOUT, params.JSON)
def drain(timeout_s: float | None, json: bool) -> None:
    """Wait until nothing is left to do.

    For preStop hooks, job epilogs and the minute before a machine goes. If
    the time is over first, it names what is left and the exit code is 1.
    Failed requests, and those that offline mode holds, are not left to do:
    they are counted on standard error; those that failed meanwhile are named.

      wherry drain --timeout 60s

    --json gives one object: drained (true or false), committed (how many),
    failed, left (arrays of requests, with the keys of `wherry queue
    --json`; failed are all that nobody has acknowledged), held (how many),
    runs (of how many something is not in the store).
    """
    chosen = settings()
    outcome, held, runs = Outcome([], [], [], timed_out=False), 0, 0
    earlier: list[pb.RequestState] = []
    if has_queue(chosen):
        daemon = Daemon(chosen)
        begun_s = time.monotonic()
        outcome = _drain(daemon, timeout_s, quiet=json)
        runs = _drain_runs(daemon, None if timeout_s is None else begun_s + timeout_s)
        status, ended = daemon.status(), {state.request_id for state in outcome.failed}
        held = status.counts.get("held", 0)
        failed = [state for state in status.requests if state.state == "failed"]
        earlier = [state for state in failed if state.request_id not in ended]
    if json:
        output.print_json(_drain_json(outcome, earlier, held, runs))
    else:
        _print_drained(outcome, len(earlier), held, timeout_s, runs)
    if outcome.left or runs:
        raise SystemExit(1)


def _sync(daemon: Daemon, project: str | None, name: str | None) -> tuple[int, list[str]]:
    held = daemon.whole_list(["held"], project or "", name or "")
    ids = [state.request_id for state in held]
    reply = pb.CountReply()
    if ids:
        reply = daemon.select("Sync", pb.SelectRequest(request_ids=ids))
    if project is None and name is None and daemon.status().runs.held:
        daemon.select("Sync", pb.SelectRequest(runs=True))
    for line in reply.left_out:
        output.note(f"wherry: not sent: {line}")
    return reply.count, ids


def _drain(daemon: Daemon, timeout_s: float | None, *, quiet: bool) -> Outcome:
    """Wait for all there is, and then for what came meanwhile, until there is nothing."""
    end_s = None if timeout_s is None else time.monotonic() + timeout_s
    committed: list[pb.RequestState] = []
    failed: list[pb.RequestState] = []
    while True:
        left_s = None if end_s is None else max(end_s - time.monotonic(), LOOK_S)
        work = daemon.whole_list(states.WORK, timeout_s=left_s)
        left_s = None if end_s is None else end_s - time.monotonic()
        over = left_s is not None and left_s <= 0
        if not work or over:
            return Outcome(committed, failed, work, timed_out=over)
        ids = [state.request_id for state in work]
        ended = wait_ended(daemon, ids, left_s, choose_progress(quiet=quiet))
        committed += ended.committed
        failed += ended.failed


def _drain_runs(daemon: Daemon, end_s: float | None) -> int:
    """Wait until what runs did is in their stores; of how many it is not when the time is over."""
    pause_s = _RUNS_S
    while True:
        waiting: int = daemon.status().runs.waiting
        left_s = pause_s if end_s is None else end_s - time.monotonic()
        if not waiting or left_s <= 0:
            return waiting
        time.sleep(min(pause_s, left_s))
        pause_s = min(2 * pause_s, _RUNS_LONGEST_S)


def _outcome_json(outcome: Outcome) -> dict[str, object]:
    return {
        "committed": [states.request_json(state) for state in outcome.committed],
        "failed": [states.request_json(state) for state in outcome.failed],
        "left": [states.request_json(state) for state in outcome.left],
        "timed_out": outcome.timed_out,
    }


def _drain_json(
    outcome: Outcome, earlier: Sequence[pb.RequestState], held: int, runs: int
) -> dict[str, object]:
    return {
        "drained": not outcome.left and not runs,
        "committed": len(outcome.committed),
        "failed": [states.request_json(state) for state in [*earlier, *outcome.failed]],
        "left": [states.request_json(state) for state in outcome.left],
        "held": held,
        "runs": runs,
    }


def _print_outcome(outcome: Outcome, limit_s: float | None) -> None:
    for state in outcome.committed:
        output.print_text(states.outcome_text(state))
    _name(outcome.failed)
    _name(outcome.left)
    if outcome.timed_out:
        output.note(
            f"wherry: not all were committed within {span_text(limit_s or 0)}; the daemon goes on"
        )


def _print_drained(
    outcome: Outcome, earlier: int, held: int, limit_s: float | None, runs: int
) -> None:
    _name(outcome.failed)
    _name(outcome.left)
    if outcome.left or runs:
        left = count_text(len(outcome.left), "request")
        if runs:
            left += f" and what {count_text(runs, 'run')} did"
        output.note(
            f"wherry: {left} left after {span_text(limit_s or 0)}; what is left stays in the queue"
        )
        if runs and not outcome.left:
            output.note(
                "wherry: `wherry cancel --all` drops it, where its store will not come back"
            )
    else:
        output.print_text(f"nothing is left to do; {len(outcome.committed):,} committed meanwhile")
    if earlier:
        have = count_text(earlier, "request has", "requests have")
        output.note(f"wherry: {have} failed before; `wherry status` names them")
    if held:
        are = count_text(held, "request is", "requests are")
        output.note(f"wherry: {are} held by offline mode; `wherry sync` sends them")


def _name(found: Sequence[pb.RequestState]) -> None:
    for state in found[:_NAMED]:
        output.note(f"wherry: {states.outcome_text(state)}")
    if len(found) > _NAMED:
        output.note(f"wherry: … and {len(found) - _NAMED:,} more; `wherry queue` lists them")
