"""What a query asks, and what may be answered."""

from __future__ import annotations

import random
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from NatureLM.data.questions import Heard, Questioner
from NatureLM.models.grammar import END, ChainTrie, EitherTrie, TokenTrie, Trie
from NatureLM.models.pocket.questions import PocketGrammar, read_query
from NatureLM.models.pocket.wording import NONE, QUESTIONS, UNKNOWABLE, refusal
from NatureLM.taxonomy.names import Taxon, Taxonomy

TAXA = (
    ("Green Treefrog", "Dryophytes cinereus", "Hylidae", "Anura", "Amphibia", "frog"),
    ("Gray Treefrog", "Dryophytes versicolor", "Hylidae", "Anura", "Amphibia", "frog"),
    ("American Robin", "Turdus migratorius", "Turdidae", "Passeriformes", "Aves", "bird"),
    ("Robin", "Erithacus rubecula", "Muscicapidae", "Passeriformes", "Aves", "bird"),
    ("Robin Accentor", "Prunella rubeculoides", "Prunellidae", "Passeriformes", "Aves", "bird"),
    ("Chuck-will's-widow", "Antrostomus carolinensis", "Caprimulgidae", "X", "Aves", "bird"),
    ("Coyote", "Canis latrans", "Canidae", "Carnivora", "Mammalia", "mammal"),
    (
        "Fall Field Cricket",
        "Gryllus pennsylvanicus",
        "Gryllidae",
        "Orthoptera",
        "Insecta",
        "insect",
    ),
    ("Engine", "", "", "", "", "sound"),
    ("Human vocal", "", "", "", "", "sound"),
)
MORE = tuple(
    (f"Bird {w}", f"Avis {w.casefold()}", "Avidae", "Aviformes", "Aves", "bird")
    for w in (
        "One",
        "Two",
        "Three",
        "Four",
        "Five",
        "Six",
        "Seven",
        "Eight",
        "Nine",
        "Ten",
        "Eleven",
        "Twelve",
        "Dozen",
        "Score",
    )
)
TAXONOMY = Taxonomy(
    Taxon(i, common, sci, sci.split(" ")[0], family, order, klass, kind)  # type: ignore[arg-type]
    for i, (common, sci, family, order, klass, kind) in enumerate(TAXA + MORE)
)


class Letters:
    """A tokenizer of one token a letter."""

    eos_token_id = 0

    def __call__(self, text: str, add_special_tokens: bool = True) -> SimpleNamespace:
        assert not add_special_tokens
        return SimpleNamespace(input_ids=[ord(letter) for letter in text])


GRAMMAR = PocketGrammar(TAXONOMY, Letters())
QUESTIONER = Questioner(
    TAXONOMY, [[c for c in range(len(TAXONOMY)) if c != i] for i in range(len(TAXONOMY))]
)


def can_be_said(trie: Trie, answer: str) -> bool:
    ids = [ord(letter) for letter in answer]
    return all(ids[i] in trie.allowed(ids[:i]) for i in range(len(ids))) and END in trie.allowed(
        ids
    )


def said_at_random(trie: Trie, rng: random.Random) -> str:
    ids: list[int] = []
    while True:
        token = rng.choice(sorted(trie.allowed(ids)))
        if token == END:
            return "".join(map(chr, ids))
        ids.append(token)


def heard(rng: random.Random) -> Heard:
    segments = rng.randint(1, 4)
    classes = [rng.sample(range(len(TAXONOMY)), 5) for _ in range(segments)]
    logits = [sorted((rng.uniform(-8, 5) for _ in range(5)), reverse=True) for _ in range(segments)]
    return Heard(classes, logits, [3.0 * i for i in range(segments)])


@pytest.mark.parametrize("kind", sorted(QUESTIONS))
def test_every_wording_is_read_as_its_kind(kind: str) -> None:
    for wording in QUESTIONS[kind]:
        for taxon in TAXONOMY:
            query = wording.format(name=taxon.common, options=f"{taxon.common}, Gray Wolf, None")
            asked = read_query(query)
            assert asked.kind == kind
            assert asked.options == ((taxon.common, "Gray Wolf") if kind == "options" else ())


@pytest.mark.parametrize("topic", sorted(UNKNOWABLE))
def test_what_cannot_be_known_is_refused_in_one_sentence(topic: str) -> None:
    for wording in UNKNOWABLE[topic]:
        assert read_query(wording).topic == topic
        trie = GRAMMAR.trie_for(wording)
        assert trie is not None
        assert said_at_random(trie, random.Random(0)) == refusal(topic)


@pytest.mark.parametrize(
    ("query", "kind"),
    [
        ("WHAT IS THE COMMON NAME FOR THE FOCAL SPECIES IN THE AUDIO?  Answer:", "common"),
        ("<Audio><AudioHere></Audio> What species is it?", "common"),
        ("Which bird is singing?", "common"),
        ("Which species can be heard?", "common"),
        ("What is calling in this recording?", "common"),
        ("Give me the Latin name", "scientific"),
        ("List the species you can hear", "list"),
        ("What are the scientific names for the species in the audio, if any?", "list_scientific"),
        ("Describe what happens", "caption"),
        ("Can you hear an American Robin?", "yes_no"),
        ("What is the life stage of the focal species in the audio? adult, juvenile", "unknowable"),
        ("Is the caller a female?", "unknowable"),
        ("Hello there", "free"),
        ("Write a poem", "free"),
    ],
)
def test_other_words_are_understood(query: str, kind: str) -> None:
    assert read_query(query).kind == kind


@pytest.mark.parametrize(
    ("query", "options"),
    [
        (
            "Which of these, if any, are present in the audio recording? Minke whale, None.",
            ("Minke whale",),
        ),
        ("Which of these do you hear: A, B or None?", ("A", "B")),
        ("Which of the following is in the audio?\n- A b\n- C\n- None", ("A b", "C")),
        ("What is the common name? Options: A; B; None.\nAnswer:", ("A", "B")),
        ("Which of these is it? A, A, B", ("A", "B")),
    ],
)
def test_options_are_found_wherever_they_stand(query: str, options: tuple[str, ...]) -> None:
    assert read_query(query).options == options


@given(st.integers(0, 10_000))
def test_every_true_answer_of_training_can_be_said(seed: int) -> None:
    rng = random.Random(seed)
    kind, question, answer = QUESTIONER(heard(rng), rng)
    assert read_query(question).kind == kind
    trie = GRAMMAR.trie_for(question)
    assert trie is None or can_be_said(trie, answer)


@given(
    st.sampled_from(["common", "scientific", "genus", "family", "order", "klass"]),
    st.integers(0, 99),
)
def test_whatever_is_said_is_a_name_or_none(rank: str, seed: int) -> None:
    trie = GRAMMAR.trie_for(QUESTIONS[rank][0])
    assert trie is not None
    assert said_at_random(trie, random.Random(seed)) in {*TAXONOMY.names(rank), NONE}  # type: ignore[arg-type]


@given(st.integers(0, 99))
def test_whatever_is_chosen_was_offered(seed: int) -> None:
    trie = GRAMMAR.trie_for(
        "Which of these, if any, are present in the audio? Cow, Gray Wolf, None."
    )
    assert trie is not None
    said = said_at_random(trie, random.Random(seed)).split(", ")
    assert said == [NONE] or set(said) <= {"Cow", "Gray Wolf"}


@given(st.integers(0, 99))
def test_a_list_has_three_different_names_at_most(seed: int) -> None:
    trie = GRAMMAR.trie_for(QUESTIONS["list"][0])
    assert trie is not None
    said = said_at_random(trie, random.Random(seed)).split(", ")
    assert len(said) == len(set(said)) <= 3
    assert all(name == NONE or TAXONOMY.by_common(name) for name in said)


def test_a_time_and_small_talk_are_not_held() -> None:
    assert GRAMMAR.trie_for("When does the Coyote call?") is None
    assert GRAMMAR.trie_for("Hello there") is None


@given(
    st.lists(
        st.lists(st.text("ab", min_size=1, max_size=3), min_size=1, max_size=4),
        min_size=1,
        max_size=3,
    ),
    st.integers(0, 99),
)
def test_a_chain_says_one_phrase_of_each_link(links: list[list[str]], seed: int) -> None:
    chain = ChainTrie([[[ord(x) for x in phrase] for phrase in link] for link in links])
    rng = random.Random(seed)
    assert can_be_said(chain, "".join(rng.choice(link) for link in links))
    whole = {""}
    for link in links:
        whole = {start + phrase for start in whole for phrase in link}
    assert said_at_random(chain, rng) in whole


def test_either_of_two_tries_can_be_followed_but_not_mixed() -> None:
    either = EitherTrie([TokenTrie([[1, 2]]), TokenTrie([[1, 3, 4]])])
    assert set(either.allowed([1])) == {2, 3}
    assert either.allowed([1, 2]) == (END,)
    assert either.allowed([1, 2, 4]) == ()
