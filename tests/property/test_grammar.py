"""Laws of the constraints: what a trie allows is exactly what was put in."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from NatureLM.models.grammar import END, ListTrie, Speller, TokenTrie, Trie

PHRASES = st.lists(st.text("abc", min_size=1, max_size=5), min_size=1, max_size=12, unique=True)


def encode(text: str) -> list[int]:
    return [ord(letter) for letter in text]


def walk(trie: Trie, seed: int, most: int = 200) -> str:
    """Take any allowed way to its end."""
    rng, ids = random.Random(seed), []
    for _ in range(most):
        choices = sorted(trie.allowed(ids))
        assert choices, f"dead end after {''.join(map(chr, ids))!r}"
        token = rng.choice(choices)
        if token == END:
            break
        ids.append(token)
    return "".join(map(chr, ids))


@given(PHRASES, st.integers(0, 1000))
def test_any_way_through_spells_a_phrase(phrases: list[str], seed: int) -> None:
    assert walk(Speller(encode).one_of(phrases), seed) in phrases


@given(PHRASES)
def test_every_phrase_can_be_said(phrases: list[str]) -> None:
    trie = TokenTrie(map(encode, phrases))
    for phrase in phrases:
        ids = encode(phrase)
        assert all(ids[i] in trie.allowed(ids[:i]) for i in range(len(ids)))
        assert END in trie.allowed(ids)


@given(PHRASES, st.integers(0, 1000))
def test_a_list_says_each_phrase_once_or_none_alone(phrases: list[str], seed: int) -> None:
    said = walk(Speller(encode).some_of(phrases, none="N"), seed).split(", ")
    assert len(set(said)) == len(said)
    assert said == ["N"] or set(said) <= set(phrases)


def test_a_prefix_outside_the_trie_allows_nothing() -> None:
    assert TokenTrie([[1, 2]]).allowed([9]) == ()
    assert ListTrie([[1]], [[7, 1]]).allowed([9]) == ()


def test_none_is_never_part_of_a_list() -> None:
    trie = Speller(encode).some_of(["ab", "b"], none="N")
    assert trie.allowed(encode("N")) == (END,)
    assert ord(",") in trie.allowed(encode("ab"))
    assert trie.allowed(encode("ab, b")) == (END,)
