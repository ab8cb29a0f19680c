"""What requests go through in the actor's process, and in which state each step leaves them.

Each life is one request with a lane of its own. A step is said when its call has returned; so after a
kill a request is as the last step that was said left it, or as the next one would.
"""

from __future__ import annotations

from wherryd.model import Lane

ADDRESS = "file:///store"
STORE_ID = "store-1"
PATHS = ("a", "b", "c")

#: (step, state of the request after it; "" where it is gone)
LIVES: dict[str, list[tuple[str, str]]] = {
    "whole": [
        ("accept", "accepted"),
        ("digests", "accepted"),
        ("place", "accepted"),
        ("prepare", "prepared"),
        ("send", "prepared"),
        ("upload", "uploaded"),
        ("attempt", "sending"),
        ("attempt_next", "sending"),
        ("settle", "settled"),
        ("learn", "settled"),
        ("link", "settled"),
        ("note_run", "settled"),
        ("release_runs", "settled"),
        ("keep_run_record", "settled"),
        ("run_record_put", "settled"),
        ("done", "done"),
        ("drop", "done"),
        ("free", "done"),
    ],
    "held": [
        ("accept_offline", "held"),
        ("sync", "accepted"),
        ("wait", "accepted"),
        ("fail", "failed"),
        ("distrust", "failed"),
        ("acknowledge", "failed"),
        ("retry", "accepted"),
        ("synced", "accepted"),
        ("cancel", "cancelled"),
    ],
    "restarted": [
        ("accept", "accepted"),
        ("prepare", "prepared"),
        ("upload", "uploaded"),
        ("attempt", "sending"),
        ("stop", "sending"),
        ("restart", "prepared"),
        ("plan_again", "accepted"),
        ("fail", "failed"),
    ],
    "lost": [
        ("accept", "accepted"),
        ("prepare", "prepared"),
        ("send", "prepared"),
        ("upload", "uploaded"),
        ("forget_sent", "uploaded"),
        ("send_back", "prepared"),
        ("upload", "uploaded"),
        ("send_back_to_plan", "accepted"),
        ("prepare", "prepared"),
        ("fail", "failed"),
    ],
    "upserted": [
        ("accept_upsert", "accepted"),
        ("prepare", "prepared"),
        ("upload", "uploaded"),
        ("keep_part", "sending"),
        ("part_put", "settled"),
        ("stop", "settled"),
        ("restart_with_part", "settled"),
        ("done", "done"),
    ],
    "late": [
        ("accept_upsert", "accepted"),
        ("prepare", "prepared"),
        ("upload", "uploaded"),
        ("keep_part", "sending"),
        ("part_put", "settled"),
        ("restart", "prepared"),
        ("upload", "uploaded"),
        ("keep_part", "sending"),
        ("part_put", "settled"),
        ("fail_late", "failed"),
    ],
    "finished": [
        ("accept_finish", "accepted"),
        ("prepare", "prepared"),
        ("upload", "uploaded"),
        ("gather", "uploaded"),
        ("forget_gathered", "uploaded"),
        ("gather", "uploaded"),
        ("keep_sealed", "sending"),
        ("attempt", "sending"),
        ("settle_draft", "settled"),
        ("done_draft", "done"),
        ("drop", "done"),
    ],
    "changed": [
        ("accept_changes", "accepted"),
        ("prepare", "prepared"),
        ("upload", "uploaded"),
        ("applied", "uploaded"),
        ("attempt", "sending"),
        ("apply_again", "uploaded"),
        ("applied", "uploaded"),
        ("attempt_next", "sending"),
        ("settle", "settled"),
        ("done", "done"),
        ("drop", "done"),
    ],
    "forgotten": [("accept", "accepted"), ("cancel", "cancelled"), ("forget", "")],
}


def states_after(life: str, steps: int) -> set[str]:
    """The states in which a request may be after ``steps`` of its steps were said."""
    states = ["", *(state for _, state in LIVES[life])]
    possible = set(states[steps : steps + 2])
    # Another life's step may forget this request, once it is cancelled.
    return possible | {""} if life == "forgotten" and "cancelled" in possible else possible


def lane_of(request_id: str) -> Lane:
    """The lane of a request, which has no other."""
    return Lane(ADDRESS, "cats", request_id)
