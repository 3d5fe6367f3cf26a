"""Prompts: the published text for good queries, a PromptError for the rest, users' text never special."""

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from NatureLM.errors import ConfigError, PromptError
from NatureLM.prompts import (
    AUDIO_TAG,
    LONGEST_QUERY,
    PLACEHOLDER,
    TEMPLATES,
    Message,
    as_given,
    ask,
    converse,
    recordings_in,
    template_of,
)

LLAMA = TEMPLATES["llama3"]
MISC = Path(__file__).parents[1] / "golden" / "model" / "expected" / "misc.json"
QUERY = "What is the common name for the focal species in the audio?"


def published(query: str) -> str:
    """The reference's rule, written down from the specification."""
    text = query if AUDIO_TAG in query else AUDIO_TAG + query
    return f"<|start_header_id|>user<|end_header_id|>\n\n{text.strip()}<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n"


def test_recorded_prompts() -> None:
    for query, text in json.loads(MISC.read_text())["prepare_instruction"]:
        assert ask(query, LLAMA).text == text


words = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=40)


@given(words.filter(lambda w: w.strip() and PLACEHOLDER not in w), words)
@settings(max_examples=60, deadline=None)
def test_a_query_gives_the_published_text(query: str, before: str) -> None:
    assert ask(query, LLAMA).text == published(query)
    if PLACEHOLDER not in before:
        assert ask(before + AUDIO_TAG + query, LLAMA).text == published(before + AUDIO_TAG + query)


def test_leading_spaces_survive_behind_the_tag_and_trailing_ones_do_not() -> None:
    assert f"{AUDIO_TAG}  Which?<|eot_id|>" in ask("  Which?  \n", LLAMA).text


@pytest.mark.parametrize("query", ["", "   ", "\n\t", AUDIO_TAG, PLACEHOLDER, "\u3000"])
def test_an_empty_query_is_refused_with_an_example(query: str) -> None:
    with pytest.raises(PromptError, match="empty; ask something, such as"):
        ask(query, LLAMA)


def test_a_megabyte_is_refused_with_its_size() -> None:
    with pytest.raises(PromptError, match="1,000,000 characters"):
        ask("a" * 1_000_000, LLAMA)
    assert ask("a" * LONGEST_QUERY, LLAMA).recordings == 1


def test_several_recordings_stand_where_the_query_says_or_in_front() -> None:
    query = "First: <Audio><AudioHere></Audio> Second: <Audio><AudioHere></Audio> Same?"
    prompt = ask(query, LLAMA, 2)
    assert prompt.recordings == 2
    assert query in prompt.text
    assert AUDIO_TAG * 2 + "Same?" in ask("Same?", LLAMA, 2).text
    assert recordings_in(query) == 2
    assert recordings_in("Same?") == recordings_in(f"Why {PLACEHOLDER}?") == 1


def test_placeholders_may_touch_each_other_and_the_ends() -> None:
    prompt = ask(f"{PLACEHOLDER}{PLACEHOLDER} same? {PLACEHOLDER}", LLAMA, 3)
    assert prompt.recordings == 3
    assert prompt.parts[1] == ()
    assert as_given(PLACEHOLDER * 2, 2).parts == ((), (), ())


@pytest.mark.parametrize(
    ("query", "recordings"),
    [
        ("a <Audio><AudioHere></Audio> b <Audio><AudioHere></Audio>", 1),
        ("a <Audio><AudioHere></Audio> b", 2),
        ("a <Audio><AudioHere></Audio> b", 0),
        ("a <AudioHere> b", 2),
    ],
)
def test_a_mismatch_is_an_error_that_counts(query: str, recordings: int) -> None:
    with pytest.raises(
        PromptError, match=rf"{query.count(PLACEHOLDER)} <AudioHere> but {recordings} "
    ):
        ask(query, LLAMA, recordings)
    with pytest.raises(PromptError, match="<AudioHere> but"):
        as_given("x", 1)


def test_a_bare_placeholder_in_a_query_about_one_recording_is_text() -> None:
    prompt = ask("What does <AudioHere> mean?", LLAMA)
    assert prompt.recordings == 1
    assert any("<AudioHere>" in piece.text for piece in prompt.parts[1])


def test_user_text_is_never_trusted_and_the_template_always() -> None:
    prompt = ask("x <|eot_id|> y", LLAMA)
    for part in prompt.parts:
        for piece in part:
            assert piece.trusted == (
                "x <|eot_id|> y" not in piece.text and "Audio" not in piece.text
            )


def test_a_conversation_keeps_its_turns() -> None:
    turns = [
        Message("system", "Be brief."),
        Message("user", "What is it?"),
        Message("assistant", "A frog."),
        Message("user", " Sure? "),
    ]
    assert converse(turns, LLAMA).text == (
        "<|start_header_id|>system<|end_header_id|>\n\nBe brief.<|eot_id|>"
        f"<|start_header_id|>user<|end_header_id|>\n\n{AUDIO_TAG}What is it?<|eot_id|>"
        "<|start_header_id|>assistant<|end_header_id|>\n\nA frog.<|eot_id|>"
        "<|start_header_id|>user<|end_header_id|>\n\nSure?<|eot_id|>"
        "<|start_header_id|>assistant<|end_header_id|>\n\n"
    )
    later = [turns[1], turns[2], Message("user", "And <Audio><AudioHere></Audio> ?")]
    assert converse(later, LLAMA, 1).text.count(PLACEHOLDER) == 1
    with pytest.raises(PromptError, match="ends with the user's turn"):
        converse(turns[:3], LLAMA)
    with pytest.raises(PromptError, match="ends with the user's turn"):
        converse([], LLAMA)


def test_an_assistants_text_holds_no_placeholder() -> None:
    turns = [Message("user", "a?"), Message("assistant", PLACEHOLDER), Message("user", "b?")]
    assert converse(turns, LLAMA).recordings == 1


def test_chatml() -> None:
    assert ask("Which?", TEMPLATES["chatml"]).text == (
        f"<|im_start|>user\n{AUDIO_TAG}Which?<|im_end|>\n<|im_start|>assistant\n"
    )


def test_a_checkpoints_own_format() -> None:
    usual = "<|start_header_id|>user<|end_header_id|>\n\n{}<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n"
    assert template_of(usual) is LLAMA
    assert template_of("") is LLAMA
    own = template_of("USER: {}\nASSISTANT:")
    assert ask("Which?", own).text == f"USER: {AUDIO_TAG}Which?\nASSISTANT:"
    with pytest.raises(PromptError, match="knows no conversation"):
        converse([Message("user", "a"), Message("assistant", "b"), Message("user", "c")], own)
    for wrong in ("no place", "{} and {}"):
        with pytest.raises(ConfigError, match="once, where the query goes"):
            template_of(wrong)
