"""Published tensor names <-> our names: a bijection, tested over every name of the real model.

Knows spellings only, no tensor and no file. The one surprise: a published name can be an alias (one tensor under several
names: the position bias under every layer, the embedding under two names), or a constant without a home (BERT's unused
position ids); and names of the LLM come with and without the wrapping that LoRA adds, which ``logical_name`` takes away.
"""

from __future__ import annotations

import re
from typing import NamedTuple

CONSTANTS = ("audio_Qformer.bert.embeddings.position_ids",)
"""Published names that carry no learned value and have no home here; written back when a model is saved."""

EMBEDDING = "llama_embed_tokens.weight"
"""The name under which the LLM's input embedding is stored: of its two published names the first in the alphabet."""

_BIAS = "self_attn.relative_attention_bias.weight"


class Rule(NamedTuple):
    """One line of the map.

    Attributes:
        published: Prefix of the published name; ``{l}`` stands for a layer's number.
        ours: Prefix of our name.
    """

    published: str
    ours: str


RULES: tuple[Rule, ...] = (
    Rule("audio_query_tokens", "qformer.query_tokens"),
    Rule("audio_Qformer.bert.embeddings.LayerNorm.", "qformer.norm."),
    *(
        Rule(f"audio_Qformer.bert.encoder.layer.{{l}}.{theirs}.", f"qformer.layers.{{l}}.{ours}.")
        for kind in ("attention", "crossattention")
        for theirs, ours in (
            (f"{kind}.self.query", f"{kind}.query"),
            (f"{kind}.self.key", f"{kind}.key"),
            (f"{kind}.self.value", f"{kind}.value"),
            (f"{kind}.output.dense", f"{kind}.output"),
            (f"{kind}.output.LayerNorm", f"{kind}.norm"),
        )
    ),
    Rule(
        "audio_Qformer.bert.encoder.layer.{l}.intermediate_query.dense.",
        "qformer.layers.{l}.intermediate.",
    ),
    Rule("audio_Qformer.bert.encoder.layer.{l}.output_query.dense.", "qformer.layers.{l}.output."),
    Rule(
        "audio_Qformer.bert.encoder.layer.{l}.output_query.LayerNorm.", "qformer.layers.{l}.norm."
    ),
    Rule("audio_llama_proj.", "projector."),
    Rule("ln_audio.", "frame_norm."),
    Rule("beats.encoder.pos_conv.0.", "encoder.encoder.pos_conv."),
    Rule(f"beats.encoder.layers.0.{_BIAS}", "encoder.encoder.relative_attention_bias.weight"),
    Rule("beats.", "encoder."),
    Rule("llama_model.", "llm."),
)
"""Read from the top; the first rule whose prefix fits applies, in either direction."""


def ours_of(published: str) -> str | None:
    """Translate a published name; ``None`` for a constant or a name of no part of the model.

    Args:
        published: A name as in a checkpoint; aliases lead to the one tensor they stand for.
    """
    name = canonical_name(published)
    if name in CONSTANTS:
        return None
    if name == EMBEDDING:
        return "llm.base_model.model.model.embed_tokens.weight"
    return next((r for r in (_translate(name, *rule) for rule in RULES) if r is not None), None)


def published_of(ours: str) -> str:
    """Translate one of our names into the name under which it is stored.

    Raises:
        KeyError: When the name belongs to no part of the published model.
    """
    if logical_name(ours) == "llm.model.embed_tokens.weight":
        return EMBEDDING
    for published, prefix in RULES:
        name = _translate(ours, prefix, published)
        if name is not None:
            return name
    raise KeyError(ours)


def canonical_name(published: str) -> str:
    """Resolve an alias to the name under which its tensor is stored; other names come back as they are."""
    if re.fullmatch(rf"beats\.encoder\.layers\.\d+\.{re.escape(_BIAS)}", published):
        return f"beats.encoder.layers.0.{_BIAS}"
    if logical_name(published) == "llama_model.model.embed_tokens.weight":
        return EMBEDDING
    return published


def aliases_of(stored: str, encoder_layers: int, *, lora: bool = True) -> tuple[str, ...]:
    """List the other published names of a stored tensor.

    Args:
        stored: A canonical published name.
        encoder_layers: BEATs' layers, all of which name the shared position bias.
        lora: Whether the LLM's names carry LoRA's wrapping.
    """
    if stored == EMBEDDING:
        return (f"llama_model.{'base_model.model.' if lora else ''}model.embed_tokens.weight",)
    if stored == f"beats.encoder.layers.0.{_BIAS}":
        return tuple(f"beats.encoder.layers.{i}.{_BIAS}" for i in range(1, encoder_layers))
    return ()


def logical_name(name: str) -> str:
    """Take LoRA's wrapping out of a name, so that a plain and a wrapped LLM agree on it.

    ``llm.base_model.model.model.layers.0.self_attn.q_proj.base_layer.weight`` and
    ``llm.model.layers.0.self_attn.q_proj.weight`` are the same tensor; adapter names keep ``lora_A`` and ``lora_B``.
    """
    head, dot, rest = name.partition(".")
    if head not in ("llama_model", "llm"):
        return name
    rest = rest.removeprefix("base_model.model.").replace(".base_layer.", ".")
    return head + dot + re.sub(r"\.lora_(A|B)\.weight$", r".lora_\1.default.weight", rest)


def _translate(name: str, source: str, target: str) -> str | None:
    """Replace the prefix ``source`` of ``name`` by ``target``, carrying a layer's number over."""
    if "{l}" not in source:
        whole = not source.endswith(".")
        fits = name == source if whole else name.startswith(source)
        return target + name[len(source) :] if fits else None
    found = re.match(re.escape(source).replace(r"\{l\}", r"(\d+)"), name)
    if found is None:
        return None
    return target.replace("{l}", found.group(1)) + name[found.end() :]
