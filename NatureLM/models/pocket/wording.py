"""What the pocket model can be asked and how its answers are worded: shared by training data and by the grammar.

Knows words and taxa only. The surprise: what the model cannot know (call type, life stage, sex, numbers, individuals) has answers too: one honest
sentence each.
"""

from __future__ import annotations

from collections.abc import Sequence

from NatureLM.taxonomy.names import Taxon

NONE = "None"
QUESTIONS: dict[str, tuple[str, ...]] = {
    "common": (
        "What is the common name for the focal species in the audio?",
        "What is the common name for the focal species in the audio? Answer:",
        "What is the common name of the focal species in the audio?",
        "What is the common name of the species in the audio?",
        "What species is this?",
        "Which species is calling?",
        "What animal is this?",
        "What bird is this?",
        "What do you hear?",
        "Name the species in the recording.",
        "What sound is this?",
    ),
    "scientific": (
        "What is the scientific name for the focal species in the audio?",
        "What is the scientific name of the focal species in the audio?",
        "What is the scientific name of the species in the audio?",
        "Give the scientific name of the species in the recording.",
        "What is the Latin name of this animal?",
    ),
    "genus": (
        "What is the genus of the focal species in the audio?",
        "What is the genus for the focal species in the audio?",
        "To which genus does the species in the audio belong?",
    ),
    "family": (
        "What is the family of the focal species in the audio?",
        "What is the family for the focal species in the audio?",
        "What is the family name of the focal species in the audio?",
        "To which family does the species in the audio belong?",
    ),
    "order": (
        "What is the order of the focal species in the audio?",
        "What is the taxonomic order of the focal species in the audio?",
        "To which order does the species in the audio belong?",
    ),
    "klass": (
        "What is the class of the focal species in the audio?",
        "What is the taxonomic class of the focal species in the audio?",
        "To which taxonomic class does the species in the audio belong?",
    ),
    "taxonomic": (
        "What is the taxonomic name of the focal species in the audio?",
        "What is the taxonomic name for the focal species in the audio?",
    ),
    "kind": (
        "What kind of animal is in the audio?",
        "What kind of animal is this?",
        "Is it a bird, a frog, an insect or a mammal?",
    ),
    "options": (
        "Which of these, if any, are present in the audio recording? {options}.",
        "Which of these, if any, are present in the audio? {options}",
        "Which of these is the focal species in the audio? {options}.",
        "Which of the following species are present in the recording? {options}.",
        "Choose the species in the audio from these options: {options}.",
    ),
    "yes_no": (
        "Is there a {name} in the audio?",
        "Is the {name} present in the recording?",
        "Can you hear a {name}?",
        "Does the audio contain a {name}?",
    ),
    "list": (
        "What are the common names for the species in the audio, if any?",
        "List all species in the audio.",
        "Which species are in the recording?",
        "What are the common names of all species in the audio?",
    ),
    "list_scientific": (
        "What are the scientific names for the species in the audio, if any?",
        "List the scientific names of all species in the audio.",
    ),
    "when": (
        "When does the {name} call?",
        "When is the {name} heard?",
        "At what times is the {name} audible?",
    ),
    "when_focal": (
        "When does the focal species call?",
        "When is the focal species heard in the audio?",
    ),
    "caption": (
        "Caption the audio.",
        "Describe the audio.",
        "Caption the audio",
        "Describe the recording.",
    ),
    "caption_common": (
        "Caption the audio, using the common name for any animal species.",
        "Caption the audio with the common name of the focal species.",
    ),
    "caption_scientific": (
        "Caption the audio, using the scientific name for any animal species.",
        "Caption the audio with the scientific name of the focal species.",
    ),
}
"""Kind of question -> ways to ask it. Several are the ways in which the published model was asked."""

UNKNOWABLE: dict[str, tuple[str, ...]] = {
    "the call type": (
        "What is the call type of the focal species in the audio?",
        "What are the call types for the focal species in the audio?",
        "Is it a call or a song?",
        "What type of vocalization is this?",
    ),
    "the life stage": (
        "What is the life stage of the focal species in the audio?",
        "Is it an adult or a juvenile?",
        "How old is the animal?",
    ),
    "the sex": ("What is the sex of the animal?", "Is it a male or a female?"),
    "how many individuals there are": (
        "How many birds are in the audio?",
        "How many individuals are calling?",
        "Is there only one bird in the audio, or more?",
        "What is the number of animals in the recording?",
    ),
    "which individual it is": ("Which individual is calling?", "Is it the same individual?"),
    "why it calls": (
        "Why does the animal call?",
        "What is the animal doing?",
        "What does the call mean?",
    ),
}
"""What cannot be told -> ways to ask for it."""


def refusal(topic: str) -> str:
    """Say that something cannot be told."""
    return f"I cannot tell {topic}. I name species and sounds."


def article(name: str) -> str:
    """Put "a" or "an" in front of a name."""
    return f"{'an' if name[0] in 'AEIOUaeiou' else 'a'} {name}"


def taxonomic(taxon: Taxon) -> str:
    """Write a taxon's ranks in one line, from the phylum to the species."""
    phylum = "Arthropoda" if taxon.klass == "Insecta" else "Chordata"
    return f"{phylum} {taxon.klass} {taxon.order} {taxon.family} {taxon.scientific}"


def caption(heard: Sequence[Taxon], kind: str = "caption") -> str:
    """Describe what is heard, strongest first."""
    animals = [taxon for taxon in heard if taxon.is_animal][:2]
    if not heard:
        return "No animal is heard."
    if not heard[0].is_animal or not animals:
        return f"The sound of {heard[0].common}."
    if kind == "caption_scientific":
        names = [taxon.scientific for taxon in animals]
    else:
        names = [article(taxon.common) for taxon in animals]
    if len(names) == 2:
        return f"The calls of {names[0]} and {names[1]}."
    extra = f" ({animals[0].scientific})" if kind == "caption" else ""
    return f"The call of {names[0]}{extra}."


def intervals(stretches: Sequence[tuple[float, float]]) -> str:
    """Write stretches of time, those that touch joined: "0-6 s, 9-12 s"."""
    joined: list[list[float]] = []
    for start, end in sorted(stretches):
        if joined and start <= joined[-1][1] + 0.05:
            joined[-1][1] = max(end, joined[-1][1])
        else:
            joined.append([start, end])
    return ", ".join(f"{_seconds(a)}-{_seconds(b)} s" for a, b in joined) or NONE


def _seconds(value: float) -> str:
    return f"{value:.1f}".removesuffix(".0")
