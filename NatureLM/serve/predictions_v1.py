"""The protocol ``predictions_v1`` of the BEANS-Next harness: three routes and their strict schema.

Knows the contract and the service behind it. The surprise: one question's fault is its ``error`` under status 200, but a request
in which every recording is too long is refused whole, with 413, before anything is decoded in full.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import PydanticCustomError
from starlette.requests import ClientDisconnect

from NatureLM.prompts import AUDIO_TAG, PLACEHOLDER, Message
from NatureLM.serve.batching import BusyError, ClosedError
from NatureLM.serve.payloads import TOO_MUCH, Payload, PayloadKind, kinds_taken
from NatureLM.serve.service import CallerGoneError, Question, Reply, Service

VERSION = "predictions_v1"
BODY_TIMEOUT_S = 60.0
"""How long a body may take to come."""
CLOSED_REQUEST = 499
"""Status, never sent, of a request whose caller has left."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, protected_namespaces=())


class MessageV1(_Strict):
    """One turn."""

    role: Literal["system", "user", "assistant"]
    content: str


class AudioV1(_Strict):
    """One recording."""

    payload_type: PayloadKind
    data: str
    sample_rate: Annotated[int, Field(ge=1)] | None = None


class RequestV1(_Strict):
    """One question."""

    sample_id: Annotated[str, Field(min_length=1, max_length=1024)]
    messages: Annotated[list[MessageV1], Field(min_length=1)]
    audio_inputs: list[AudioV1] = Field(default_factory=list)
    generation_config: dict[str, Any] | None = None

    @model_validator(mode="after")
    def _asks(self) -> RequestV1:
        if self.messages[-1].role != "user":
            raise PydanticCustomError("messages", "the last message must be the user's")
        last = self.messages[-1].content
        if not last.replace(AUDIO_TAG.strip(), "").replace(PLACEHOLDER, "").strip():
            raise PydanticCustomError("messages", "the question is empty")
        return self


class BatchV1(_Strict):
    """The body of ``/predict``."""

    schema_version: Literal["predictions_v1"]
    requests: list[RequestV1]


class ResponseV1(_Strict):
    """What became of one question."""

    sample_id: str
    predictions: list[str]
    error: str | None = None
    finish_reason: str | None = None
    usage: dict[str, float] | None = None
    latency_sec: float | None = None


class BatchResponseV1(_Strict):
    """The answer of ``/predict``."""

    schema_version: Literal["predictions_v1"]
    responses: list[ResponseV1]


class InfoV1(_Strict):
    """The answer of ``/info``."""

    name: str
    model: str
    model_revision: str
    audio_payload_types: list[PayloadKind]
    max_batch_size: int
    supports_batching: bool
    schema_versions: list[str]


class Refusal(Exception):  # noqa: N818 - a refusal is an answer, not a fault of ours
    """A request that is refused whole."""

    def __init__(
        self, status: int, error: str, detail: str, retry_after_s: int | None = None
    ) -> None:
        super().__init__(detail)
        self.status, self.error, self.retry_after_s = status, error, retry_after_s

    def response(self) -> JSONResponse:
        """Write it."""
        headers = {"Retry-After": str(self.retry_after_s)} if self.retry_after_s else None
        body = {"error": self.error, "detail": str(self)}
        return JSONResponse(body, self.status, headers)


def router(service: Service) -> APIRouter:
    """Give the routes of the protocol."""
    routes = APIRouter(tags=[VERSION])
    busy = asyncio.Semaphore(service.limits.request_limit)

    @routes.get("/health")
    async def health() -> Response:
        if not service.queue.alive:
            return JSONResponse({"status": "failed"}, 503)
        return JSONResponse({"status": "ok"})

    @routes.get("/info")
    async def info() -> InfoV1:
        return info_of(service)

    @routes.post(
        "/predict",
        response_model=BatchResponseV1,
        openapi_extra={
            "requestBody": {
                "required": True,
                "content": {"application/json": {"schema": BatchV1.model_json_schema()}},
            }
        },
    )
    async def predict(request: Request) -> Response:
        if busy.locked():
            later_s = service.queue.retry_after_s()
            return Refusal(429, "busy", "too many requests at once", later_s).response()
        try:
            async with busy:
                return await _predict(request, service)
        except Refusal as refusal:
            return refusal.response()
        except ClientDisconnect:
            return Response(status_code=CLOSED_REQUEST)

    return routes


def info_of(service: Service) -> InfoV1:
    """Describe the server as the contract wants it."""
    model = service.model
    return InfoV1(
        name="naturelm-audio",
        model=model.name or "unnamed",
        model_revision=model.revision or "unknown",
        audio_payload_types=kinds_taken(service.limits),
        max_batch_size=service.limits.max_batch_size,
        supports_batching=True,
        schema_versions=[VERSION],
    )


async def _predict(request: Request, service: Service) -> Response:
    try:
        body = await asyncio.wait_for(request.body(), BODY_TIMEOUT_S)
    except (TimeoutError, asyncio.TimeoutError) as error:
        raise Refusal(408, "slow_body", f"no whole body within {BODY_TIMEOUT_S:g} s") from error
    batch = await asyncio.to_thread(read_batch, body, service)
    try:
        replies = await service.answer([_question(each) for each in batch], request.is_disconnected)
    except BusyError as error:
        raise Refusal(429, "busy", str(error), error.retry_after_s) from error
    except ClosedError as error:
        raise Refusal(503, "closing", str(error), 1) from error
    except CallerGoneError:
        return Response(status_code=CLOSED_REQUEST)
    _refuse_if_all_too_long(replies)
    answer = BatchResponseV1(
        schema_version="predictions_v1",
        responses=[_response(each.sample_id, r) for each, r in zip(batch, replies, strict=True)],
    )
    return JSONResponse(answer.model_dump(exclude_none=True))


def read_batch(body: bytes, service: Service) -> list[RequestV1]:
    """Read and check a request.

    Raises:
        Refusal: 422 for another schema or a prompt beyond the limit, 413 for too many questions, 400 for ids that are not unique
            and for payload types that this server does not take.
    """
    try:
        batch = BatchV1.model_validate_json(body)
    except ValidationError as error:
        raise Refusal(422, "schema", _sentence(error)) from error
    limits, requests = service.limits, batch.requests
    if len(requests) > limits.max_batch_size:
        detail = f"{len(requests)} requests; at most {limits.max_batch_size} are taken at once"
        raise Refusal(413, "batch_too_large", detail)
    again = [name for name, count in Counter(r.sample_id for r in requests).items() if count > 1]
    if again:
        raise Refusal(
            400, "duplicate_sample_id", f"sample_id {again[0][:100]!r} comes more than once"
        )
    taken = kinds_taken(limits)
    for each in requests:
        for audio in each.audio_inputs:
            if audio.payload_type not in taken:
                detail = f"{audio.payload_type} is not taken here; send {' or '.join(taken)}"
                raise Refusal(400, "payload_type_refused", detail)
        characters = sum(len(m.content) for m in each.messages)
        if characters > limits.max_prompt_characters:
            detail = f"a prompt of {characters:,} characters; at most {limits.max_prompt_characters:,} are taken"
            raise Refusal(422, "prompt_too_long", detail)
    return requests


def _sentence(error: ValidationError) -> str:
    """Say the first faults without repeating what was sent, which may be megabytes."""
    faults = error.errors(include_url=False, include_input=False, include_context=False)
    said = [
        "/".join(str(part)[:60] for part in f["loc"]) + f": {f['msg'][:200]}" for f in faults[:3]
    ]
    more = f" (and {len(faults) - 3} more)" if len(faults) > 3 else ""
    return "; ".join(said) + more


def _question(request: RequestV1) -> Question:
    return Question(
        tuple(Message(m.role, m.content) for m in request.messages),
        tuple(Payload(audio.payload_type, audio.data) for audio in request.audio_inputs),
        request.generation_config,
    )


def _refuse_if_all_too_long(replies: Sequence[Reply]) -> None:
    if replies and all(reply.code in TOO_MUCH for reply in replies):
        raise Refusal(413, str(replies[0].code), str(replies[0].error))


def _response(sample_id: str, reply: Reply) -> ResponseV1:
    if reply.text is None:
        return ResponseV1(sample_id=sample_id, predictions=[], error=reply.error)
    return ResponseV1(
        sample_id=sample_id,
        predictions=[reply.text],
        finish_reason=reply.finish,
        usage={
            "completion_tokens": reply.tokens,
            "audio_seconds_given": round(reply.given_s, 3),
            "audio_seconds_heard": round(reply.heard_s, 3),
        },
        latency_sec=round(reply.latency_s, 4),
    )
