"""What the daemon says: one line of key=value pairs per event, on standard error.

Owns: the lines' form, that no secret gets into one, and that one which can't be written (the home's
disk is full) stops nothing. Does not own: the file; whoever starts the daemon sends its standard error
to ``daemon.log`` in the home.
"""

from __future__ import annotations

import logging
import os
import re
from typing import TextIO, cast

import structlog
from structlog.typing import EventDict, FilteringBoundLogger, WrappedLogger

#: ``user:password@`` in a URI: the password, or a lone token, is hidden.
_USER_INFO = re.compile(r"(?<=://)([^/@\s:]*)(:[^/@\s]*)?@")
#: Query parameters that sign or grant something.
_QUERY = re.compile(
    r"(?i)([?&](?:[\w.-]*(?:signature|credential|token|secret|password|key|sig)[\w.-]*)=)[^&\s\"']+"
)

#: Lines take key=value form, so a line break inside a value must not make a new line.
_ORDER = ("time", "level", "event")


def mask_secrets(text: str) -> str:
    """Hide passwords, tokens and signatures in the URIs of a text."""
    return _QUERY.sub(r"\1***", _USER_INFO.sub("***@", text))


def _mask(_: WrappedLogger, __: str, event: EventDict) -> EventDict:
    return {
        key: mask_secrets(value) if isinstance(value, str) else value
        for key, value in event.items()
    }


class _Lines:
    """Standard error, written at once and as far as it takes the bytes.

    Not ``sys.stderr``: that keeps what it could not write, and fails again with it at the end.
    """

    def write(self, text: str) -> None:
        """Write text, or lose it."""
        try:
            os.write(2, text.encode(errors="backslashreplace"))
        except OSError:
            pass  # a full disk, say: the work goes on, which may be what frees it

    def flush(self) -> None:
        """Do nothing: nothing is kept."""


def configure(level: str) -> None:
    """Send this process's log to standard error.

    Args:
        level: ``debug``, ``info``, ``warning`` or ``error``; lower ones are left out.
    """
    lines = cast("TextIO", _Lines())
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True, key="time"),
            structlog.processors.format_exc_info,
            _mask,
            structlog.processors.LogfmtRenderer(key_order=_ORDER, drop_missing=True),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.WriteLoggerFactory(file=lines),
        cache_logger_on_first_use=True,
    )
    logging.basicConfig(stream=lines, level=logging.WARNING)


def get_logger(stage: str) -> FilteringBoundLogger:
    """Return a logger whose lines say which stage speaks."""
    logger: FilteringBoundLogger = structlog.get_logger(stage=stage)
    return logger
