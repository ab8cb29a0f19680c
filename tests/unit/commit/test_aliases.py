"""What an alias becomes."""

from __future__ import annotations

import pytest

from wherryd.commit.aliases import given_by_logging, moved_by_user, worth_giving
from wherryd.model import Alias


def test_a_new_alias_is_not_made() -> None:
    """The first version that asks gets the alias."""
    assert given_by_logging(None, "best", 3, "w") == Alias(1, "best", 3, 3, "w")


def test_a_late_version_takes_the_alias_back() -> None:
    """Logging moves an alias only above all that it ever was at."""
    assert given_by_logging(Alias(1, "best", 2, 5, ""), "best", 5, "w") is None
    assert given_by_logging(Alias(1, "best", None, 5, ""), "best", 4, "w") is None
    assert given_by_logging(Alias(1, "best", 2, 5, ""), "best", 6, "w") == Alias(
        1, "best", 6, 6, "w"
    )


def test_a_users_move_is_taken_back_by_a_version_that_was_there() -> None:
    """A user's move raises the highest to the lane's highest number."""
    assert moved_by_user(None, "best", 1, 7, "w") == Alias(1, "best", 1, 7, "w")
    assert moved_by_user(Alias(1, "best", 9, 9, ""), "best", 1, 7, "w").highest == 9


def test_a_users_move_is_above_the_highest() -> None:
    """No alias object says what a reader takes for damage: a version above its highest, or none there."""
    assert moved_by_user(None, "best", 8, 7, "w").highest == 8
    with pytest.raises(ValueError, match="no version"):
        moved_by_user(None, "best", None, -1, "w")


def test_a_removed_alias_forgets_its_highest() -> None:
    """Removing keeps the object, without a version."""
    assert moved_by_user(Alias(1, "best", 4, 4, ""), "best", None, 4, "w") == Alias(
        1, "best", None, 4, "w"
    )


def test_latest_is_given() -> None:
    """``latest`` and empty strings add nothing."""
    assert worth_giving(["latest", "", "best", "best"]) == ["best"]
