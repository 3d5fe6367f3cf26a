"""From a user's question to what the LLM reads: chat templates, the audio placeholder, several recordings, several turns.

Text to text, no torch. A prompt stays in pieces: a template's special tokens are special, a user's text never is, whatever it
spells. The surprise: the published model's placeholder tag is followed by a space, and a query is stripped only after the tag
was put in front, so a query's leading spaces survive (MODEL specification, section 7.1).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from NatureLM.errors import ConfigError, PromptError

PLACEHOLDER = "<AudioHere>"
AUDIO_TAG = f"<Audio>{PLACEHOLDER}</Audio> "
LONGEST_QUERY = 100_000
"""Characters of one message at most; what fits the LLM's context is checked in tokens later."""

Role = Literal["system", "user", "assistant"]


@dataclass(frozen=True)
class Template:
    """How an LLM's chat format writes a turn.

    Attributes:
        turn: A finished turn, with ``{role}`` and ``{content}``.
        opening: What stands before the answer that is to be written.
        begin: Whether the tokenizer's begin-of-text token stands in front of all.
        turns: Whether it can write a conversation; a checkpoint's own one-turn format cannot.
    """

    turn: str
    opening: str
    begin: bool
    turns: bool = True

    def around(self, role: Role) -> tuple[str, str]:
        """Split a turn into what stands before and after its content."""
        before, _, after = self.turn.replace("{role}", role).partition("{content}")
        return before, after


TEMPLATES: dict[str, Template] = {
    "llama3": Template(
        "<|start_header_id|>{role}<|end_header_id|>\n\n{content}<|eot_id|>",
        "<|start_header_id|>assistant<|end_header_id|>\n\n",
        begin=True,
    ),
    "chatml": Template(
        "<|im_start|>{role}\n{content}<|im_end|>\n", "<|im_start|>assistant\n", begin=False
    ),
}
"""Name -> chat format. No system turn is added by either: the models were tuned without one."""


def template_of(prompt_template: str, family: str = "llama3") -> Template:
    """Read a published ``prompt_template``, which has one ``{}`` for the user's turn.

    Args:
        prompt_template: The text; empty for the family's own format.
        family: Row of ``TEMPLATES``.

    Raises:
        ConfigError: It has no ``{}`` or several.
    """
    own = TEMPLATES[family]
    if prompt_template in ("", own.turn.format(role="user", content="{}") + own.opening):
        return own
    if prompt_template.count("{}") != 1:
        raise ConfigError(
            f"prompt_template is {prompt_template!r}; it must hold {{}} once, where the query goes."
        )
    return Template(prompt_template.replace("{}", "{content}"), "", own.begin, turns=False)


@dataclass(frozen=True)
class Message:
    """One turn of a conversation.

    Attributes:
        role: Who speaks.
        content: What was said; a user's text may hold placeholders.
    """

    role: Role
    content: str


@dataclass(frozen=True)
class Piece:
    """A stretch of a prompt.

    Attributes:
        text: The text.
        trusted: Whether special tokens in it are special: true for a template's text, false for a user's.
    """

    text: str
    trusted: bool


@dataclass(frozen=True)
class Prompt:
    """What the LLM reads, cut where recordings stand.

    Attributes:
        parts: Pieces of text; recording i stands between part i and part i + 1.
        begin: Whether the begin-of-text token stands in front.
    """

    parts: tuple[tuple[Piece, ...], ...]
    begin: bool

    @property
    def recordings(self) -> int:
        """Count the recordings that the prompt has room for."""
        return len(self.parts) - 1

    @property
    def text(self) -> str:
        """Write the prompt with its placeholders, for people and tests."""
        return PLACEHOLDER.join("".join(p.text for p in part) for part in self.parts)


def ask(query: str, template: Template, recordings: int = 1) -> Prompt:
    """Put one query about one or several recordings into a chat template.

    Args:
        query: The user's question. It may say where the recordings stand by the placeholder, one each; else they come first.
        template: The LLM's chat format.
        recordings: Recordings that the query is about.

    Raises:
        PromptError: The query is empty, far too long, or has another number of placeholders than there are recordings.
    """
    return converse([Message("user", query)], template, recordings)


def converse(messages: Sequence[Message], template: Template, recordings: int = 1) -> Prompt:
    """Put a conversation into a chat template; the assistant's answer is to follow.

    Args:
        messages: Turns in order, the last one the user's.
        template: The LLM's chat format.
        recordings: Recordings that the whole conversation is about.

    Raises:
        PromptError: As for ``ask``, or the last turn is not the user's.
    """
    if not messages or messages[-1].role != "user":
        raise PromptError(
            "A conversation ends with the user's turn; add the question as its last message."
        )
    if len(messages) > 1 and not template.turns:
        raise PromptError("This checkpoint's prompt_template knows no conversation; ask one query.")
    for message in messages:
        _check(message)
    said = _placed(messages, recordings)
    parts: list[list[Piece]] = [[]]
    for message, content in zip(messages, said, strict=True):
        before, after = template.around(message.role)
        first, *rest = content
        parts[-1] += [Piece(before, trusted=True), Piece(first, trusted=False)]
        parts += [[Piece(text, trusted=False)] for text in rest]
        parts[-1].append(Piece(after, trusted=True))
    parts[-1].append(Piece(template.opening, trusted=True))
    return Prompt(tuple(tuple(p for p in part if p.text) for part in parts), template.begin)


def recordings_in(query: str) -> int:
    """Count the recordings that a query is about: one for each whole audio tag in it, one when it has none."""
    return max(1, query.count(AUDIO_TAG.strip()))


def as_given(text: str, recordings: int = 1, *, begin: bool = True) -> Prompt:
    """Take a finished prompt as it is, its special tokens special: for prompts that a program wrote.

    Raises:
        PromptError: The text has another number of placeholders than there are recordings.
    """
    parts = text.split(PLACEHOLDER)
    if len(parts) - 1 != recordings:
        raise PromptError(_mismatch(len(parts) - 1, recordings))
    pieces = tuple((Piece(part, trusted=True),) if part else () for part in parts)
    return Prompt(pieces, begin)


def _check(message: Message) -> None:
    content = message.content
    bare = content.replace(AUDIO_TAG.strip(), "").replace(PLACEHOLDER, "")
    if message.role == "user" and not bare.strip():
        raise PromptError(
            "The query is empty; ask something, such as 'What is the common name for the focal species in the audio?'"
        )
    if len(content) > LONGEST_QUERY:
        raise PromptError(
            f"The query has {len(content):,} characters; at most {LONGEST_QUERY:,} are taken."
        )


def _placed(messages: Sequence[Message], recordings: int) -> list[list[str]]:
    """Cut each message's content at its placeholders, putting tags in front where the user named no place."""
    users = [m.content for m in messages if m.role == "user"]
    marked = any(AUDIO_TAG.strip() in content for content in users)
    counted = sum(content.count(PLACEHOLDER) for content in users)
    if not marked and not (recordings > 1 and counted):
        first = next(i for i, m in enumerate(messages) if m.role == "user")
        return [
            _fronted(m.content, recordings if i == first else 0)
            if m.role == "user"
            else [m.content]
            for i, m in enumerate(messages)
        ]
    if counted != recordings:
        raise PromptError(_mismatch(counted, recordings))
    return [
        m.content.strip().split(PLACEHOLDER) if m.role == "user" else [m.content] for m in messages
    ]


def _fronted(content: str, recordings: int) -> list[str]:
    before, after = AUDIO_TAG.split(PLACEHOLDER)
    if not recordings:
        return [content.strip()]
    between = [after + before] * (recordings - 1)
    return [before, *between, (after + content).rstrip()]


def _mismatch(placeholders: int, recordings: int) -> str:
    return (
        f"The query has {placeholders} {PLACEHOLDER} but {recordings} recording{'s' * (recordings != 1)} came with it; "
        f"write {AUDIO_TAG.strip()} once for each recording, or leave it out to have them in front."
    )
