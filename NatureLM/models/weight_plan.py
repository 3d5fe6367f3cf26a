"""Every tensor finds its home, or the load is refused with names and a guess at the reason.

Knows names and shapes, of what a model needs and of what files hold; reads and writes no tensor. The one surprise: the LLM's
tables have one row more than the base model's, the ``[PAD]`` row; where no file has it, it is pinned to zero, never random.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from NatureLM.errors import CheckpointError
from NatureLM.models.keymap import CONSTANTS, canonical_name, logical_name, ours_of, published_of
from NatureLM.models.weight_file import Entry

Shape = tuple[int, ...]
SHOWN = 4
"""Names that a message lists before it counts the rest."""


@dataclass(frozen=True)
class Read:
    """One tensor to fill.

    Attributes:
        ours: Our name.
        entry: Where it lies.
        rows: Rows that the file holds; those behind them are pinned to zero. ``None`` when it holds all.
    """

    ours: str
    entry: Entry
    rows: int | None = None


@dataclass(frozen=True)
class Holdings:
    """What there is to load from.

    Attributes:
        name: The checkpoint, for messages.
        checkpoint: Published name -> where it lies.
        base: The base LLM's tensors by the names of its own files, asked for only when the checkpoint lacks some;
            ``None`` when no base was found.
        encoder: An original encoder's tensors, for checkpoints without one.
    """

    name: str
    checkpoint: Mapping[str, Entry]
    base: Callable[[], Mapping[str, Entry]] | None = None
    encoder: Mapping[str, Entry] = field(default_factory=dict)


def plan_reads(expected: Mapping[str, Shape], holdings: Holdings) -> list[Read]:
    """Decide where every tensor of a model comes from.

    Args:
        expected: Our name -> shape, of every tensor that the model needs.
        holdings: What the files have.

    Raises:
        CheckpointError: When a tensor is missing, has no home or the wrong shape.
    """
    homes = {logical_name(name): name for name in expected}
    found: dict[str, Entry] = {}
    strangers: list[str] = []
    for name, entry in holdings.checkpoint.items():
        if name in CONSTANTS:
            continue
        ours = ours_of(name)
        home = None if ours is None else homes.get(logical_name(ours))
        if home is None:
            strangers.append(name)
        elif home not in found or name == canonical_name(name):
            found[home] = entry
    found = _from_encoder(holdings.encoder) | found
    missing = [name for name in expected if name not in found]
    if holdings.base is not None and any(name.startswith("llm.") for name in missing):
        found |= _from_base(missing, holdings.base())
        missing = [name for name in expected if name not in found]
    reads, misshapen = _reads(expected, found)
    faults = _Faults(missing, strangers, misshapen, holdings.base is not None)
    if missing or strangers or misshapen:
        raise CheckpointError(f"{holdings.name}: these weights do not fit the model. {faults}")
    return reads


@dataclass(frozen=True)
class _Faults:
    missing: Sequence[str]
    strangers: Sequence[str]
    misshapen: Sequence[tuple[str, Shape, Shape]]
    has_base: bool

    def __str__(self) -> str:
        shown = [f"{n} {list(s)} where {list(w)} was expected" for n, s, w in self.misshapen]
        groups = (
            ("Missing", [published_of(name) for name in self.missing]),
            ("Without a home", self.strangers),
            ("Of another shape", shown),
        )
        lines = [f"{title}: {_listed(names)}." for title, names in groups if names]
        guess = next((text for test, text in GUESSES if test(self)), "") or self._rank()
        return " ".join([*lines, guess]).strip()

    def lacks(self, part: str) -> bool:
        return any(part in name for name in self.missing)

    def _rank(self) -> str:
        for name, has, wants in self.misshapen:
            if ".lora_" in name:
                side = 0 if ".lora_A." in name else -1
                return f"Looks like LoRA of rank {has[side]} while lora_rank is {wants[side]}: pass lora_rank={has[side]}."
        return ""


def _lacks_base(faults: _Faults) -> bool:
    return any(n.startswith("llm.") and ".lora_" not in n for n in faults.missing)


def _of_another_base(faults: _Faults) -> bool:
    tables = ("embed_tokens", "lm_head", "projector", "audio_llama_proj")
    return any(part in name for name, _, _ in faults.misshapen for part in tables)


def _of_another_depth(faults: _Faults) -> bool:
    names = (*faults.missing, *faults.strangers)
    return bool(names) and all(re.search(r"layers?\.\d+\.", name) for name in names)


GUESSES: tuple[tuple[Callable[[_Faults], bool], str], ...] = (
    (
        _of_another_base,
        "Looks like another base LLM than the one it was trained on: check llama_path.",
    ),
    (
        lambda f: _lacks_base(f) and not f.has_base,
        "Llama base missing: pass llama_path=... (a folder or a hub name with configuration, tokenizer and weights).",
    ),
    (
        _lacks_base,
        "The base LLM at llama_path lacks them too: it looks like another model, or an incomplete download.",
    ),
    (
        lambda f: any(".lora_" in n for n in f.strangers),
        "Looks like a checkpoint with LoRA while its configuration says lora is false: pass lora=True.",
    ),
    (
        lambda f: f.lacks("encoder.patch_embedding."),
        "Looks like a run with a frozen encoder: pass beats_path=... with the original BEATs file, converted.",
    ),
    (
        lambda f: f.lacks("encoder.predictor."),
        "Looks like an encoder without classes: set finetuned_model to false in beats_cfg.",
    ),
    (
        lambda f: bool(f.missing) and all(".lora_" in n for n in f.missing),
        "Looks like a checkpoint without LoRA: pass lora=False, or convert the folder that holds the adapter.",
    ),
    (
        _of_another_depth,
        "Looks like a model with another number of layers: check its configuration.",
    ),
)
"""What probably happened, the first that fits."""


def _from_encoder(entries: Mapping[str, Entry]) -> dict[str, Entry]:
    named = ((ours_of(f"beats.{k.removeprefix('beats.')}"), e) for k, e in entries.items())
    return {ours: entry for ours, entry in named if ours is not None}


def _from_base(missing: Sequence[str], entries: Mapping[str, Entry]) -> dict[str, Entry]:
    """Look missing tensors of the LLM up in its own files; a tied head is the embedding."""
    found = {}
    for name in missing:
        bare = logical_name(name).removeprefix("llm.")
        entry = entries.get(bare)
        if entry is None and bare == "lm_head.weight":
            entry = entries.get("model.embed_tokens.weight")
        if entry is not None and name.startswith("llm."):
            found[name] = entry
    return found


def _reads(
    expected: Mapping[str, Shape], found: Mapping[str, Entry]
) -> tuple[list[Read], list[tuple[str, Shape, Shape]]]:
    reads, misshapen = [], []
    for name, shape in expected.items():
        entry = found.get(name)
        if entry is None:
            continue
        table = logical_name(name) in ("llm.model.embed_tokens.weight", "llm.lm_head.weight")
        if entry.shape == shape:
            reads.append(Read(name, entry))
        elif table and entry.shape == (shape[0] - 1, *shape[1:]):
            reads.append(Read(name, entry, rows=entry.shape[0]))
        else:
            misshapen.append((entry.name, entry.shape, shape))
    return reads, misshapen


def _listed(names: Sequence[str]) -> str:
    rest = len(names) - SHOWN
    return ", ".join(names[:SHOWN]) + (f" and {rest} more" if rest > 0 else "")
