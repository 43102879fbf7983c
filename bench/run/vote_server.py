"""Serves a study to browsers: one page, its media, and two addresses for trials and answers."""

from __future__ import annotations

import json
import re
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from bench.core.declaration import parse_json
from bench.core.errors import UsageError
from bench.core.resources import data_folder
from bench.run.voting import MEDIA, Desk

_RATER = re.compile(r"[0-9a-f]{16}")
_FILE = re.compile(r"media/([0-9]{6}\.(mp4|png|jpg|jpeg|webp))")
_TYPES = {"mp4": "video/mp4", "png": "image/png", "jpg": "image/jpeg", "jpeg": "image/jpeg", "webp": "image/webp"}
_LONGEST = 4096  # bytes of an answer


def make_server(desk: Desk, folder: Path, host: str = "127.0.0.1", port: int = 0) -> ThreadingHTTPServer:
    """Return a server for a study; call its `serve_forever`.

    Args:
        desk: hands out trials.
        folder: of the study.
        host: address to listen on; `127.0.0.1` is this computer only.
        port: 0 takes a free one.
    """
    page = (data_folder("reports") / "templates" / "vote.html").read_bytes()

    class Handler(_Handler):
        pass

    Handler.desk, Handler.media, Handler.page, Handler.local = desk, folder / MEDIA, page, host == "127.0.0.1"
    server = ThreadingHTTPServer((host, port), Handler)
    server.daemon_threads = True
    return server


class _Handler(BaseHTTPRequestHandler):
    desk: Desk
    media: Path
    page: bytes
    local: bool
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """Serve the page, a trial or a file."""
        where = urlsplit(self.path)
        path = where.path.lstrip("/")
        if self._foreign():
            self._say(HTTPStatus.FORBIDDEN, "Not for other sites.")
        elif path == "":
            self._send(HTTPStatus.OK, self.page, "text/html; charset=utf-8")
        elif path == "next":
            rater = parse_qs(where.query).get("rater", [""])[0]
            if _RATER.fullmatch(rater):
                self._send(HTTPStatus.OK, json.dumps(self.desk.next(rater)).encode(), "application/json")
            else:
                self._say(HTTPStatus.BAD_REQUEST, "Not a rater.")
        elif found := _FILE.fullmatch(path):
            self._file(self.media / found[1], _TYPES[found[2]])
        else:
            self._say(HTTPStatus.NOT_FOUND, "There is nothing here.")

    def do_POST(self) -> None:
        """Take an answer."""
        length = self.headers.get("Content-Length", "")
        if not length.isdigit() or int(length) > _LONGEST:
            self.close_connection = True
            self._say(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "Too long.")
            return
        body = self.rfile.read(int(length))
        plain = self.headers.get("Content-Type", "").partition(";")[0].strip() != "application/json"
        if self.path.lstrip("/") != "vote" or self._foreign() or plain:
            self._say(HTTPStatus.FORBIDDEN, "Not taken.")
            return
        try:
            taken = self.desk.take(parse_json(body, dict[str, Any], "the answer"))
        except UsageError as error:
            self._say(HTTPStatus.BAD_REQUEST, error.message)
        else:
            self._say(HTTPStatus.OK if taken else HTTPStatus.GONE, "Stored." if taken else "That trial is over.")

    def _foreign(self) -> bool:
        """Whether another site's page, or a name that was made to point here, asks."""
        host = self.headers.get("Host", "")
        origin = self.headers.get("Origin")
        if origin is not None and urlsplit(origin).netloc != host:
            return True
        return self.local and host.rpartition(":")[0] not in ("127.0.0.1", "localhost")

    def _file(self, path: Path, kind: str) -> None:
        try:
            data = path.read_bytes()
        except OSError:
            self._say(HTTPStatus.NOT_FOUND, "There is nothing here.")
            return
        asked = re.fullmatch(r"bytes=(\d*)-(\d*)", self.headers.get("Range", ""))
        if asked is None or not (asked[1] or asked[2]):
            self._send(HTTPStatus.OK, data, kind, {"Accept-Ranges": "bytes"})
            return
        first = int(asked[1]) if asked[1] else max(0, len(data) - int(asked[2]))
        last = min(int(asked[2]), len(data) - 1) if asked[1] and asked[2] else len(data) - 1
        if first > last:
            self._send(
                HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE, b"", kind, {"Content-Range": f"bytes */{len(data)}"}
            )
            return
        part = {"Content-Range": f"bytes {first}-{last}/{len(data)}", "Accept-Ranges": "bytes"}
        self._send(HTTPStatus.PARTIAL_CONTENT, data[first : last + 1], kind, part)

    def _say(self, status: HTTPStatus, text: str) -> None:
        self._send(status, text.encode(), "text/plain; charset=utf-8")

    def _send(self, status: HTTPStatus, body: bytes, kind: str, more: dict[str, str] | None = None) -> None:
        self.send_response(status)
        headers = {"Content-Type": kind, "Content-Length": str(len(body)), "Cache-Control": "no-store"}
        headers |= {"X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer", **(more or {})}
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Log nothing: who asked when is nobody's business."""
