"""What a server takes at most, and what it may touch.

Knows numbers and folders only. Files are off until a folder is allowed; URLs are never fetched.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from NatureLM.errors import ConfigError


@dataclass(frozen=True)
class Limits:
    """What one server takes.

    Attributes:
        max_batch_size: Questions in one request at most, and in one batch of the model.
        queue_limit: Questions that wait at most; beyond them callers are told to come again.
        request_limit: Requests being read, decoded or answered at once.
        wait_s: How long a batch waits for company.
        max_body_bytes: Size of a request.
        max_audio_bytes: Size of one encoded recording.
        max_audio_s: Length of one recording.
        max_prompt_characters: All messages of a question together.
        max_new_tokens: Tokens of an answer.
        max_beams: Beams of a search.
        max_audios: Recordings of one question.
        allowed_folders: Where ``file_path`` payloads may lie.
    """

    max_batch_size: int = 16
    queue_limit: int = 256
    request_limit: int = 64
    wait_s: float = 0.01
    max_body_bytes: int = 64 * 2**20
    max_audio_bytes: int = 32 * 2**20
    max_audio_s: float = 60.0
    max_prompt_characters: int = 20_000
    max_new_tokens: int = 300
    max_beams: int = 8
    max_audios: int = 16
    allowed_folders: tuple[Path, ...] = ()

    def __post_init__(self) -> None:
        for name in ("max_batch_size", "queue_limit", "request_limit", "max_body_bytes"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} {getattr(self, name)}: expected at least 1")
        if self.queue_limit < self.max_batch_size:
            raise ConfigError(
                f"queue_limit {self.queue_limit}: expected at least max_batch_size ({self.max_batch_size})"
            )
        if not self.max_audio_s > 0 or not self.wait_s >= 0:
            raise ConfigError("max_audio_s must be above 0 and wait_s not below it")
        for folder in self.allowed_folders:
            if not folder.is_dir():
                raise ConfigError(f"{folder}: no such folder to allow files from")
