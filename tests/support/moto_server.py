"""A program: moto's S3 server, one request at a time; run in moto's own environment, imported by nobody.

moto looks at a condition and writes under no lock, so that of writers that race two may win. Here each has
its connection and its thread, but the next request begins when the one before has been answered.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Callable, Iterable
from threading import Lock
from typing import Any

from moto.moto_server.werkzeug_app import (
    DomainDispatcherApplication,
    MotoRequestHandler,
    create_backend_app,
)
from werkzeug.exceptions import ClientDisconnected
from werkzeug.serving import run_simple
from werkzeug.wsgi import get_input_stream


class OneAtATime:
    """Hand an application requests that have arrived whole, each when the one before is done."""

    def __init__(self, app: Callable[..., Iterable[bytes]]) -> None:
        self._app = app
        self._turn = Lock()

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
        """Answer one request, as WSGI (PEP 3333) says."""
        try:
            body = get_input_stream(environ).read()
        except ClientDisconnected:
            start_response("400 Bad Request", [("Connection", "close")])
            return []
        environ["wsgi.input"] = io.BytesIO(body)
        with self._turn:
            return [b"".join(self._app(environ, start_response))]


def main(host: str, port: int) -> None:
    """Serve. Who can connect finds all of it loaded."""
    moto = DomainDispatcherApplication(create_backend_app)
    moto.get_application({"PATH_INFO": "/"})
    run_simple(host, port, OneAtATime(moto), threaded=True, request_handler=MotoRequestHandler)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
