"""Hold an answer to what may be said: token tries over names, options and lists of names.

Knows tokens and text, nothing of audio. The surprise: a name may be the beginning of another ("Gray Wolf", "Gray Wolfhound"),
so a place in the trie can allow both more tokens and the end, which is written ``END``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

END = -1
"""Stands for "the answer may stop here" among the allowed token ids."""

Encode = Callable[[str], list[int]]


@runtime_checkable
class Trie(Protocol):
    """What decoding asks of a constraint."""

    def allowed(self, prefix: Sequence[int]) -> tuple[int, ...]:
        """List the token ids that may follow ``prefix``; ``END`` among them where the answer may stop."""


@runtime_checkable
class Grammar(Protocol):
    """Choose a constraint for a query."""

    def trie_for(self, query: str) -> Trie | None:
        """Return what holds the answer to ``query``; ``None`` leaves it free."""


class _Node:
    """One place in a trie: next token -> next place; ``below`` counts the phrases that pass or end here."""

    __slots__ = ("below", "final", "following")

    def __init__(self) -> None:
        self.following: dict[int, _Node] = {}
        self.final = False
        self.below = 0


def _grow(phrases: Iterable[Sequence[int]]) -> _Node:
    root = _Node()
    for phrase in dict.fromkeys(tuple(p) for p in phrases if p):
        node = root
        node.below += 1
        for token in phrase:
            node = node.following.setdefault(token, _Node())
            node.below += 1
        node.final = True
    return root


class TokenTrie:
    """Exactly one of many phrases.

    Args:
        phrases: Token ids of each phrase; empty phrases are left out.
    """

    def __init__(self, phrases: Iterable[Sequence[int]]) -> None:
        self.root = _grow(phrases)

    def allowed(self, prefix: Sequence[int]) -> tuple[int, ...]:
        """List the tokens that may follow ``prefix``; empty when ``prefix`` is not of the trie."""
        node: _Node | None = self.root
        for token in prefix:
            node = None if node is None else node.following.get(token)
        return () if node is None else _choices(node)


class ListTrie:
    """One phrase, or several different ones joined by a separator.

    Args:
        first: Token ids of each phrase at the start of the answer.
        rest: Token ids of each phrase after another one, the separator's tokens in front; same order as ``first``.
        alone: Phrases that stand alone, such as "None".
        most: Phrases in one answer at most.
    """

    def __init__(
        self,
        first: Sequence[Sequence[int]],
        rest: Sequence[Sequence[int]],
        alone: Sequence[Sequence[int]] = (),
        most: int = 8,
    ) -> None:
        self._first, self._rest = _grow([*first, *alone]), _grow(rest)
        self._spelt_after = {tuple(f): tuple(r) for f, r in zip(first, rest, strict=True)}
        self._alone = {tuple(phrase) for phrase in alone}
        self._most = min(most, len(rest))

    def allowed(self, prefix: Sequence[int]) -> tuple[int, ...]:
        """List the tokens that may follow ``prefix``; a phrase already said is not said again."""
        said, node, current = self._walk(tuple(prefix))
        if node is None:
            return ()
        phrase = self._spelt_after.get(current, current)
        choices = {t for t in node.following if not said or self._unsaid(said, current, node, t)}
        if node.final and phrase not in said:
            choices.add(END)
            done = {*said, phrase}
            if current not in self._alone and len(done) < self._most:
                choices |= {
                    t for t in self._rest.following if self._unsaid(done, (), self._rest, t)
                }
        return tuple(choices)

    def _walk(
        self, prefix: tuple[int, ...]
    ) -> tuple[set[tuple[int, ...]], _Node | None, tuple[int, ...]]:
        said: set[tuple[int, ...]] = set()
        node: _Node | None = self._first
        current: tuple[int, ...] = ()
        for token in prefix:
            following = None if node is None else node.following.get(token)
            if following is None and node is not None and node.final:
                said.add(self._spelt_after.get(current, current))
                following, current = self._rest.following.get(token), ()
            node, current = following, (*current, token)
        return said, node, current

    @staticmethod
    def _unsaid(
        said: set[tuple[int, ...]], current: tuple[int, ...], node: _Node, token: int
    ) -> bool:
        path = (*current, token)
        return node.following[token].below > sum(phrase[: len(path)] == path for phrase in said)


class ChainTrie:
    """One phrase of each link after the other, such as a sentence with names in it.

    Args:
        links: Token ids of the phrases that may stand at each place, the space in front of a phrase part of its tokens.
    """

    def __init__(self, links: Sequence[Iterable[Sequence[int]]]) -> None:
        self._roots = [_grow(phrases) for phrases in links]

    def allowed(self, prefix: Sequence[int]) -> tuple[int, ...]:
        """List the tokens that may follow ``prefix``; empty when ``prefix`` is not of the chain."""
        places = self._reached({(0, self._roots[0])})
        for token in prefix:
            ahead = {(i, n.following[token]) for i, n in places if n and token in n.following}
            places = self._reached(ahead)
        choices = {token for _, node in places if node for token in node.following}
        if any(node is None for _, node in places):
            choices.add(END)
        return tuple(choices)

    def _reached(self, places: set[tuple[int, _Node]]) -> set[tuple[int, _Node | None]]:
        """Add the next link's start behind every finished phrase, and ``None`` behind the last link's."""
        reached: set[tuple[int, _Node | None]] = set()
        for link, node in places:
            reached.add((link, node))
            if node.final:
                more = link + 1 < len(self._roots)
                reached.add((link + 1, self._roots[link + 1] if more else None))
        return reached


class EitherTrie:
    """What any of several tries allows.

    Args:
        tries: The tries; an answer follows one of them to its end.
    """

    def __init__(self, tries: Sequence[Trie]) -> None:
        self._tries = tuple(tries)

    def allowed(self, prefix: Sequence[int]) -> tuple[int, ...]:
        """List the tokens that may follow ``prefix`` in one of the tries."""
        return tuple({token for trie in self._tries for token in trie.allowed(prefix)})


def _choices(node: _Node) -> tuple[int, ...]:
    return (*node.following, END) if node.final else tuple(node.following)


@dataclass(frozen=True)
class Speller:
    """Spell phrases as the LLM would write them at the start of an answer and after a comma.

    Attributes:
        encode: Text to token ids, without special tokens.
    """

    encode: Encode

    def one_of(self, phrases: Sequence[str]) -> TokenTrie:
        """Allow exactly one of the phrases."""
        return TokenTrie([self.encode(phrase) for phrase in dict.fromkeys(phrases)])

    def some_of(self, phrases: Sequence[str], none: str = "None", most: int = 8) -> ListTrie:
        """Allow one or several of the phrases, joined by ", ", or ``none`` alone."""
        distinct = [phrase for phrase in dict.fromkeys(phrases) if phrase != none]
        first = [self.encode(phrase) for phrase in distinct]
        rest = [self.encode(f", {phrase}") for phrase in distinct]
        return ListTrie(first, rest, [self.encode(none)], most)
