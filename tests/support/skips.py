"""With ``WHERRY_NO_SKIPS=1``, which ``.ci/run`` sets, a test that is skipped fails: CI must not lose one.

``tests/conftest.py`` imports the hook.
"""

from __future__ import annotations

import os
import re
from collections.abc import Generator

import pytest

_FORBIDDEN = os.environ.get("WHERRY_NO_SKIPS") == "1"

#: What CI may be without, or what one of several parameters has no use for.
_MAY_BE = re.compile(
    r"test_a_long_listing_has_a_seam\[memory\]"
    r"|test_a_(replace_is_lost|long_listing_has_a_seam)\[rclone\]"
    r"|test_nothing_is_told_until_all_is_there\[memory-.*\]"
    r"|test_systemd_misunderstands_the_unit"
)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Turn a skip into a failure, unless it is a listed one."""
    report = yield
    if _FORBIDDEN and report.skipped and not _MAY_BE.fullmatch(item.name):
        why = call.excinfo.value if call.excinfo else "by a mark"
        report.outcome = "failed"
        report.longrepr = f"{item.nodeid} must not be skipped here: {why}"
    return report
