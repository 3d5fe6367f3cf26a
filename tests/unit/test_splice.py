"""Splicing: ids as the reference's, users' text as letters, padding on the side that was asked for."""

import json
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from NatureLM.errors import PromptError
from NatureLM.models.llm import load_tokenizer
from NatureLM.models.splice import padded, spliced, text_ids, token_ids
from NatureLM.prompts import TEMPLATES, as_given, ask
from tests import tiny

GOLDEN = Path(__file__).parents[1] / "golden" / "model"
WORDS = tiny.tokenizer()
LLAMA = load_tokenizer(GOLDEN / "llama")
TABLE = torch.randn(len(WORDS), 8)


def test_recorded_ids_of_whole_prompts() -> None:
    recorded = json.loads((GOLDEN / "expected" / "tokenization.json").read_text())
    for text, ids in recorded.items():
        if "<AudioHere>" not in text:
            assert text_ids(text, LLAMA) == ids or text in LLAMA.get_added_vocab()
            continue
        assert list(LLAMA(text, add_special_tokens=False).input_ids) == ids


@given(st.text(max_size=60).filter(lambda t: t.strip() and "<" not in t and "[PAD]" not in t))
@settings(max_examples=60, deadline=None)
def test_ordinary_text_gives_the_ids_of_whole_part_tokenisation(query: str) -> None:
    prompt = ask(query, TEMPLATES["llama3"])
    before, after = prompt.text.split("<AudioHere>")
    for words in (WORDS, LLAMA):
        found = token_ids(prompt, words)
        assert found[0] == [words.bos_token_id, *words(before, add_special_tokens=False).input_ids]
        assert found[1] == list(words(after, add_special_tokens=False).input_ids)


@pytest.mark.parametrize("words", [WORDS, LLAMA], ids=["tiny", "golden"])
@given(data=st.data())
@settings(max_examples=40, deadline=None)
def test_special_tokens_in_a_users_text_are_letters(words: object, data: st.DataObject) -> None:
    known = sorted(words.get_added_vocab())  # type: ignore[attr-defined]
    pieces = data.draw(st.lists(st.sampled_from([*known, "a", " b", "\n"]), min_size=1, max_size=6))
    text = "x" + "".join(pieces)
    ids = [i for part in token_ids(ask(text, TEMPLATES["llama3"]), words) for i in part]
    special = set(words.get_added_vocab().values())  # type: ignore[attr-defined]
    plain = [i for part in token_ids(ask("x", TEMPLATES["llama3"]), words) for i in part]
    assert [i for i in ids if i in special] == [i for i in plain if i in special]
    assert words.decode(text_ids(text, words)) == text  # type: ignore[attr-defined]


def test_parts_audio_parts_in_order() -> None:
    audio = [torch.full((2, 8), 1.0), torch.full((3, 8), 2.0)]
    whole = spliced([[5], [], [6, 7]], audio, TABLE)
    assert torch.equal(whole, torch.cat([TABLE[5:6], *audio, TABLE[6:8]]))


def test_nothing_but_audio_can_be_spliced() -> None:
    assert (
        len(spliced(token_ids(as_given("<AudioHere>", begin=False), WORDS), [TABLE[:2]], TABLE))
        == 2
    )


@pytest.mark.parametrize("audio", [[], [TABLE[:1]] * 2])
def test_a_mismatch_is_refused(audio: list) -> None:
    with pytest.raises(PromptError, match=f"room for 1 recordings and {len(audio)}"):
        spliced([[1], [2]], audio, TABLE)


@pytest.mark.parametrize("side", ["left", "right"])
def test_padding_is_on_the_side_that_was_asked_for(side: str) -> None:
    rows = [torch.full((n, 4), float(n)) for n in (1, 3, 2)]
    batch, mask = padded(rows, side)
    assert mask.sum(1).tolist() == [1, 3, 2]
    for row, got, kept in zip(rows, batch, mask.bool(), strict=True):
        assert torch.equal(got[kept], row)
        assert (got[~kept] == 0).all()
    edge = 2 if side == "left" else 0
    assert mask[:, edge].tolist() == [1, 1, 1]


def test_audio_takes_the_embeddings_type() -> None:
    assert spliced([[1], [2]], [TABLE[:1].double()], TABLE.bfloat16()).dtype is torch.bfloat16
