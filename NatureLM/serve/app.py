"""The web application and its server: protocols mounted on one service, bodies bounded, faults as JSON.

Knows HTTP, nothing of audio. The surprise: a server on a loopback address answers only to loopback host names, so that a web page
whose name was made to point here cannot talk to it.
"""

from __future__ import annotations

import importlib
import ipaddress
import socket
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import uvicorn
from fastapi import FastAPI
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from NatureLM import __version__
from NatureLM.errors import ConfigError
from NatureLM.serve import PROTOCOLS
from NatureLM.serve.service import Service

LOOPBACK_NAMES = ["localhost", "127.0.0.1", "::1", "[::1]"]


def build_app(
    service: Service, protocols: Sequence[str] = ("predictions-v1",), host: str = ""
) -> FastAPI:
    """Make the application.

    Args:
        service: What answers; closed when the application ends.
        protocols: Rows of `PROTOCOLS`.
        host: The address it will be bound to; on a loopback one only loopback names are answered.

    Raises:
        ConfigError: There is no such protocol.
    """

    @asynccontextmanager
    async def life(_: FastAPI) -> AsyncIterator[None]:
        yield
        service.close()

    app = FastAPI(title="naturelm-audio", version=__version__, lifespan=life)
    for name in protocols:
        if name not in PROTOCOLS:
            raise ConfigError(f"protocol {name!r}: unknown; choose among {', '.join(PROTOCOLS)}")
        module, _, function = PROTOCOLS[name].partition(":")
        app.include_router(getattr(importlib.import_module(module), function)(service))
    app.add_middleware(BoundedBody, limit=service.limits.max_body_bytes)
    if is_loopback(host):
        app.add_middleware(TrustedHostMiddleware, allowed_hosts=LOOPBACK_NAMES)
    return app


class _TooLargeError(Exception):
    pass


class BoundedBody:
    """Refuses a body beyond a limit with 413: by its announced length before reading, by counting otherwise."""

    def __init__(self, app: ASGIApp, limit: int) -> None:
        self._app, self._limit = app, limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        announced = dict(scope["headers"]).get(b"content-length", b"")
        if announced.isdigit() and int(announced) > self._limit:
            await self._refusal()(scope, receive, send)
            return
        started = False

        async def noted(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            await self._app(scope, self._counted(receive), noted)
        except _TooLargeError:
            if started:
                raise
            await self._refusal()(scope, receive, send)

    def _counted(self, receive: Receive) -> Receive:
        seen = 0

        async def counted() -> Message:
            nonlocal seen
            message = await receive()
            seen += len(message.get("body", b""))
            if seen > self._limit:
                raise _TooLargeError
            return message

        return counted

    def _refusal(self) -> JSONResponse:
        detail = f"a request of more than {self._limit:,} bytes"
        return JSONResponse({"error": "body_too_large", "detail": detail}, 413)


def is_loopback(host: str) -> bool:
    """Say whether an address is this machine's own."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def bound(host: str, port: int) -> socket.socket:
    """Take an address.

    Raises:
        ConfigError: It cannot be had.
    """
    if not 0 <= port < 2**16:
        raise ConfigError(f"{host}:{port}: no such port; expected 0 to 65535")
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
        family, kind, protocol, _, address = found[0]
        return _listener(family, kind, protocol, address)
    except (OSError, OverflowError) as error:
        raise ConfigError(
            f"{host}:{port}: cannot listen there ({error}); choose another --port"
        ) from error


def _listener(family: int, kind: int, protocol: int, address: Any) -> socket.socket:
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
    except OSError:
        listener.close()
        raise
    return listener


def serve(app: FastAPI, listener: socket.socket, ready: Callable[[str], None]) -> None:
    """Serve until stopped.

    Args:
        app: The application.
        listener: A bound socket.
        ready: Told the address when it is about to answer.
    """
    listener.listen()  # so that whoever reads the address may call at once
    config = uvicorn.Config(app, log_level="warning", ws="none", timeout_graceful_shutdown=5)
    host, port = listener.getsockname()[:2]
    ready(f"http://{f'[{host}]' if ':' in host else host}:{port}")
    uvicorn.Server(config).run(sockets=[listener])
