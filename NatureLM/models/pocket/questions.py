"""Which kind of question a query is, and what holds its answer.

Reads the user's words; knows names through the taxonomy and tokens through the tokenizer, nothing of audio. The surprise: the offered options may stand
behind the question mark or behind a colon, with or without "None", and what is asked about them decides first: "call or song" is refused, offered or not.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from NatureLM.models.grammar import ChainTrie, EitherTrie, Speller, TokenTrie, Trie
from NatureLM.models.pocket.wording import NONE, article, caption, refusal, taxonomic
from NatureLM.taxonomy.names import Rank, Taxonomy

MOST_LISTED = 3
"""Names in one list at most, as in training."""


@dataclass(frozen=True)
class Asked:
    """What a query asks.

    Attributes:
        kind: Row of ``wording.QUESTIONS``, ``unknowable``, or ``free`` for anything else.
        options: The labels offered, in order, without "None".
        topic: Row of ``wording.UNKNOWABLE``.
    """

    kind: str
    options: tuple[str, ...] = ()
    topic: str = ""


_TOPICS: dict[str, str] = {
    "the call type": r"call[- ]types?|types? of (?:call|vocali[sz]ation|sound does)|vocali[sz]ation types?|kinds? of (?:call|vocali[sz]ation)"
    r"|\bcalls? or (?:an? )?songs?|\bsongs? or (?:an? )?calls?|flight call|alarm call|contact call",
    "the life stage": r"life[- ]?stage|juvenile|adult|nestling|\bhow old\b|\bage\b",
    "the sex": r"\bsex\b|\bgender\b|\b(?:fe)?male\b",
    "how many individuals there are": r"\bhow many\b|\bnumber of (?!the)|\bonly one\b|\bmore than one\b|\bone or more\b|\bcount\b",
    "which individual it is": r"\bindividuals?\b|\bidentity of\b",
    "why it calls": r"\bwhy\b|\bdoing\b|\bmean\b|\bbehaviou?r\b|\bemotion",
}
"""What cannot be told -> how it is asked for."""

_KINDS: tuple[tuple[str, str], ...] = (
    ("caption_scientific", r"(?=.*\b(?:caption|describe|description)\b).*\b(?:scientific|latin)\b"),
    ("caption_common", r"(?=.*\b(?:caption|describe|description)\b).*\bcommon\b"),
    ("caption", r"\b(?:caption|describe|description)\b"),
    (
        "when_focal",
        r"\b(?:when|what times?|which times?|time ?stamps?)\b.*\b(?:focal|it|animal|species)\b",
    ),
    ("when", r"\b(?:when|what times?|which times?|time ?stamps?)\b"),
    ("list_scientific", r"\b(?:scientific|latin) names\b|\blist\b.*\b(?:scientific|latin)\b"),
    (
        "list",
        r"\bcommon names\b|\b(?:all|every|list|each)\b.*\b(?:species|animals?|birds?|sounds?)\b|\b(?:which|what) (?:species|animals|birds) are\b",
    ),
    (
        "kind",
        r"\b(?:kind|type|sort|group) of (?:an? )?animals?\b|\bbird, (?:an? )?(?:frog|insect|mammal)|\bbird or\b",
    ),
    ("taxonomic", r"\btaxonomic names?\b|\btaxonomy\b|\blineage\b|\bfull taxonom"),
    ("genus", r"\bgenus\b"),
    ("family", r"\bfamily\b"),
    ("order", r"\border\b"),
    ("klass", r"\bclass\b"),
    ("scientific", r"\b(?:scientific|latin|binomial)\b"),
    ("yes_no", r"^(?:is|are|does|do|can|could|did|has|was|were)\b"),
    (
        "common",
        (
            r"\bcommon name\b|\bspecies\b|\b(?:what|which) (?:\w+ )?(?:animal|bird|frog|insect|mammal|sound|creature)\b|\bidentify\b|\bwho is\b"
            r"|\bname the\b|\bwhat (?:is|was) (?:this|that|it|heard|calling|singing|making)\b|\bdo (?:you|we) hear\b|\bcan be heard\b"
        ),
    ),
)
"""Kind -> how it is asked for; the first that fits."""

_OFFER = re.compile(
    r"\bof (?:these|the following)\b|\b(?:options?|choices?|choose|pick|select|among)\b",
    re.IGNORECASE,
)


def read_query(query: str) -> Asked:
    """Find out what a query asks.

    Args:
        query: The user's words; case, a closing "Answer:" and the audio placeholder do not matter.
    """
    text = re.sub(r"<[^<>]*>", " ", query).strip()
    text = re.sub(r"\s*\banswer\s*:?\s*$", "", text, flags=re.IGNORECASE).strip()
    question, offered = _parted(text)
    low = " ".join(question.casefold().split())
    if not re.search(r"\bbird, (?:an? )?frog", low):
        for topic, pattern in _TOPICS.items():
            if re.search(pattern, low):
                return Asked("unknowable", topic=topic)
    if offered:
        return Asked("options", offered)
    for kind, pattern in _KINDS:
        if re.search(pattern, low):
            return Asked(kind)
    return Asked("free")


def _parted(text: str) -> tuple[str, tuple[str, ...]]:
    """Part a query into the question and the options that it offers."""
    places = [m.end() for m in re.finditer(r"[?:](?=\s)", text)]
    for place in reversed(places):
        rest = text[place:].strip().rstrip("?. ")
        offered = tuple(_labels(rest))
        several = len(offered) > 1 or (offered and _OFFER.search(text[:place]))
        if several and not re.search(r"[?:]\s", rest):
            return text[:place], tuple(dict.fromkeys(o for o in offered if o.casefold() != "none"))
    return text, ()


def _labels(text: str) -> list[str]:
    """Cut a list of labels at commas, semicolons or lines."""
    parts = re.split(r"[,;\n]", text)
    cleaned = (re.sub(r"^(?:[-*]\s+|(?:or|and)\s+)", "", part.strip()).strip() for part in parts)
    labels = [label for label in cleaned if label]
    if labels and (last := re.fullmatch(r"(.+?) or (.+)", labels[-1])):
        labels[-1:] = [last[1], last[2]]
    return labels


class PocketGrammar:
    """Hold answers to valid names, offered options, worded captions and honest refusals.

    Args:
        taxonomy: The names.
        tokenizer: The LLM's.
    """

    def __init__(self, taxonomy: Taxonomy, tokenizer: Any) -> None:
        self._taxonomy = taxonomy

        def encode(text: str) -> list[int]:
            return list(tokenizer(text, add_special_tokens=False).input_ids)

        self._speller = Speller(encode)
        self._kept: dict[str, Trie | None] = {}

    def trie_for(self, query: str) -> Trie | None:
        """Return what holds the answer to a query; ``None`` leaves it free."""
        asked = read_query(query)
        if asked.kind == "options":
            return self._speller.some_of(asked.options, NONE)
        if asked.kind == "unknowable":
            return self._speller.one_of([refusal(asked.topic)])
        if asked.kind not in self._kept:
            self._kept[asked.kind] = self._made(asked.kind)
        return self._kept[asked.kind]

    def _made(self, kind: str) -> Trie | None:
        makers: dict[str, Callable[[], Trie]] = {
            "yes_no": lambda: self._speller.one_of(["Yes", "No"]),
            "list": lambda: self._some("common"),
            "list_scientific": lambda: self._some("scientific"),
            "kind": lambda: self._one(
                [k.capitalize() for k in self._taxonomy.names("kind") if k != "sound"]
            ),
            "taxonomic": lambda: self._one([taxonomic(t) for t in self._taxonomy if t.is_animal]),
            "caption": lambda: self._caption("caption", "common"),
            "caption_common": lambda: self._caption("caption_common", "common"),
            "caption_scientific": lambda: self._caption("caption_scientific", "scientific"),
        }
        ranks: tuple[Rank, ...] = ("common", "scientific", "genus", "family", "order", "klass")
        for rank in ranks:
            if kind == rank:
                return self._one(self._taxonomy.names(rank))
        return makers[kind]() if kind in makers else None

    def _one(self, names: Sequence[str]) -> TokenTrie:
        return self._speller.one_of([*names, NONE])

    def _some(self, rank: Rank) -> Trie:
        return self._speller.some_of(self._taxonomy.names(rank), NONE, MOST_LISTED)

    def _caption(self, kind: str, rank: Rank) -> Trie:
        encode, taxa = self._speller.encode, self._taxonomy
        single = self._speller.one_of([caption([], kind), *(caption([t], kind) for t in taxa)])
        named = self._animals if rank == "common" else taxa.names(rank)
        names = [encode(f" {name}") for name in named]
        links = [[encode("The calls of")], names, [encode(" and")], names, [encode(".")]]
        return EitherTrie([single, ChainTrie(links)])

    @cached_property
    def _animals(self) -> tuple[str, ...]:
        return tuple(article(taxon.common) for taxon in self._taxonomy if taxon.is_animal)
