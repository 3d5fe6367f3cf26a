"""What the pocket model's training needs, made once: the bank of evidence, the names as tokens of the LLM, the taxonomy.

Knows files and tensors. The surprise: after this step neither the encoder's file nor a recording is needed, so training fits on a machine that has only
this folder and the LLM.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int
from safetensors.torch import load_file, save_file
from torch import Tensor

from NatureLM.data.evidence import EvidenceBank, load_bank, make_bank, save_bank
from NatureLM.models.pocket.bridge import Slots
from NatureLM.models.pocket.wording import NONE
from NatureLM.taxonomy.names import Taxon, Taxonomy

FILLER = 0
"""Row of the table of words that stands behind a name's end."""


@dataclass(frozen=True)
class Words:
    """Names as rows of a small table of the LLM's embeddings. The last row of each target is "None".

    Attributes:
        table: Embeddings of all tokens that occur, row ``FILLER`` the LLM's end of turn, (words, width).
        common: Rows that spell each class's common name, (classes + 1, places).
        scientific: The same for the scientific name.
        second: The same for the common name, in fewer places.
    """

    table: Float[Tensor, "words width"]
    common: Int[Tensor, "names places"]
    scientific: Int[Tensor, "names places2"]
    second: Int[Tensor, "names places3"]

    def to(self, device: torch.device | str) -> Words:
        """Move to a device."""
        return Words(*(t.to(device) for t in vars(self).values()))


@dataclass(frozen=True)
class Prepared:
    """A folder's content.

    Attributes:
        bank: What evidence is made of.
        words: Names as tokens.
        taxonomy: Names and ranks.
    """

    bank: EvidenceBank
    words: Words
    taxonomy: Taxonomy

    @property
    def sounds(self) -> Int[Tensor, " sounds"]:
        """Indices of the classes that are no animals."""
        return torch.tensor([taxon.index for taxon in self.taxonomy if not taxon.is_animal])


def load_prepared(folder: Path) -> Prepared:
    """Read a prepared folder."""
    rows = json.loads((folder / "taxa.json").read_text(encoding="utf-8"))
    words = load_file(folder / "words.safetensors")
    return Prepared(
        load_bank(folder / "bank.safetensors"),
        Words(**{k: v.float() if k == "table" else v.long() for k, v in words.items()}),
        Taxonomy(Taxon(**row) for row in rows),
    )


def prepare(folder: Path, taxonomy: Taxonomy, birdnet: Any, llm: Any, tokenizer: Any) -> Prepared:
    """Make a prepared folder.

    Args:
        folder: Where it goes.
        taxonomy: Names of the encoder's classes.
        birdnet: The encoder.
        llm: The LLM, for its embeddings.
        tokenizer: Its tokenizer.
    """
    folder.mkdir(parents=True, exist_ok=True)
    dense = (birdnet.get_buffer("prototypes"), birdnet.get_buffer("bias"))
    save_bank(make_bank(*dense, shipped_statistics()), folder / "bank.safetensors")
    embedding = llm.get_input_embeddings().weight.detach()
    words = make_words(taxonomy, tokenizer, embedding)
    tensors = {k: v.half() if k == "table" else v.short() for k, v in vars(words).items()}
    save_file({k: v.contiguous() for k, v in tensors.items()}, folder / "words.safetensors")
    text = json.dumps([asdict(taxon) for taxon in taxonomy])
    (folder / "taxa.json").write_text(text, encoding="utf-8")
    return load_prepared(folder)


def shipped_statistics() -> dict[str, Tensor]:
    """Read the statistics of real embeddings that come with the package."""
    path = resources.files("NatureLM.data").joinpath("embedding_statistics.safetensors")
    return {name: tensor.float() for name, tensor in load_file(str(path)).items()}


def make_words(
    taxonomy: Taxonomy, tokenizer: Any, embedding: Float[Tensor, "vocabulary width"]
) -> Words:
    """Spell all names in tokens and gather the embeddings of those that occur."""
    slots = Slots()
    common = [_ids(tokenizer, name) for name in [*(t.common for t in taxonomy), NONE]]
    scientific = [
        _ids(tokenizer, name) for name in [*(t.scientific or NONE for t in taxonomy), NONE]
    ]
    end = tokenizer.eos_token_id
    used = sorted({i for row in (*common, *scientific) for i in row} - {end})
    row_of = {end: FILLER, **{token: i + 1 for i, token in enumerate(used)}}
    return Words(
        embedding[torch.tensor([end, *used])].float(),
        _spelt(common, row_of, slots.common),
        _spelt(scientific, row_of, slots.scientific),
        _spelt(common, row_of, slots.second),
    )


def _ids(tokenizer: Any, name: str) -> list[int]:
    return list(tokenizer(name, add_special_tokens=False).input_ids)


def _spelt(names: Sequence[Sequence[int]], row_of: dict[int, int], places: int) -> Tensor:
    table = torch.full((len(names), places), FILLER)
    for row, ids in zip(table, names, strict=True):
        kept = [row_of[i] for i in ids[:places]]
        row[: len(kept)] = torch.tensor(kept)
    return table
