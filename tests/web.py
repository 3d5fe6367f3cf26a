"""A server on a real loopback socket, and a client of the standard library."""

from __future__ import annotations

import base64
import io
import json
import threading
import time
import urllib.error
import urllib.request
from contextlib import contextmanager
from typing import Any

import numpy as np
import soundfile
import uvicorn

from NatureLM.models.model import Answer
from NatureLM.prompts import TEMPLATES, ask, recordings_in
from NatureLM.serve.app import bound, build_app
from NatureLM.serve.limits import Limits
from NatureLM.serve.service import Service
from tests import tiny


class Levels(tiny.ScriptedModel):
    """Says how loud each of its recordings was, in the order of the prompt, and what it was asked."""

    template = TEMPLATES["llama3"]

    def __init__(self, seconds_a_batch: float = 0.0) -> None:
        super().__init__([""])
        self.seconds, self.asked, self.sizes = seconds_a_batch, [], []

    def prompt(self, query: str, recordings: int | None = None):
        return ask(query, self.template, recordings_in(query) if recordings is None else recordings)

    def answer(self, tokens, queries, *_rest, **_more):
        time.sleep(self.seconds)
        self.sizes.append(len(queries))
        levels, said = iter(tokens.tokens[:, 0, 0].tolist()), []
        for query in queries:
            prompt = self.prompt(query) if isinstance(query, str) else query
            self.asked.append(prompt.text)
            heard = " ".join(f"{next(levels):.2f}" for _ in range(prompt.recordings))
            said.append(Answer(f"{heard}|{prompt.text}", (1, 2), -0.1, "stop"))
        return said


@contextmanager
def server(model: Any, limits: Limits | None = None):
    """Serve on a free port; yields (address, service)."""
    service = Service(model, limits or Limits(max_batch_size=4, queue_limit=16))
    listener = bound("127.0.0.1", 0)
    app = build_app(service, host="127.0.0.1")
    running = uvicorn.Server(
        uvicorn.Config(app, log_level="error", ws="none", timeout_graceful_shutdown=5)
    )
    thread = threading.Thread(target=running.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        while not running.started:
            time.sleep(0.005)
        yield f"http://127.0.0.1:{listener.getsockname()[1]}", service
    finally:
        running.should_exit = True
        thread.join()
        listener.close()


def wav(
    level: float = 0.25, seconds: float = 1.0, kind: str = "WAV", rate_hz: int = 16_000
) -> bytes:
    """Make a square wave of this level, which has no offset."""
    samples = level * np.where(np.arange(int(seconds * rate_hz)) // 40 % 2, 1.0, -1.0)
    file = io.BytesIO()
    soundfile.write(file, samples, rate_hz, format=kind)
    return file.getvalue()


def audio(content: bytes) -> dict[str, Any]:
    data = base64.b64encode(content).decode()
    return {"payload_type": "base64_wav", "data": data, "sample_rate": 16_000}


def question(
    name: str = "a", text: str = "What is it?", *audios: dict[str, Any], **more: Any
) -> dict[str, Any]:
    return {
        "sample_id": name,
        "messages": [{"role": "user", "content": text}],
        "audio_inputs": list(audios),
        "generation_config": {"max_tokens": 10, "temperature": 0.0},
        **more,
    }


def batch(*questions: dict[str, Any]) -> dict[str, Any]:
    return {"schema_version": "predictions_v1", "requests": list(questions)}


def call(address: str, path: str, body: Any = None, headers: dict[str, str] | None = None):
    """Call a route; returns (status, JSON, headers)."""
    data = body if isinstance(body, bytes | None) else json.dumps(body).encode()
    wanted = {"Content-Type": "application/json", **(headers or {})}
    request = urllib.request.Request(address + path, data, wanted)
    try:
        with urllib.request.urlopen(request, timeout=30) as reply:
            return reply.status, json.loads(reply.read() or b"null"), reply.headers
    except urllib.error.HTTPError as error:
        with error:
            content = error.read()
            try:
                return error.code, json.loads(content or b"null"), error.headers
            except ValueError:
                return error.code, content.decode(), error.headers
