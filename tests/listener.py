# SPDX-License-Identifier: GPL-3.0-or-later
"""A web server on the loopback interface, for what a hook is told."""

from __future__ import annotations

import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

SECRET = "T0K3N/qXz91"  # of a URL, a header and an argument


class Listener:
    """Keeps what it gets, and answers with a status after some seconds."""

    def __init__(self, status: int = 200, seconds: float = 0.0) -> None:
        self.got: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        listener = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                listener.got.append(json.loads(body))
                listener.headers.append(dict(self.headers))
                time.sleep(seconds)
                self.send_response(status)
                if status // 100 == 3:
                    self.send_header("Location", f"http://127.0.0.1:{listener.port}/elsewhere")
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self._server.server_port
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/{SECRET}"

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
