"""The published checkpoint forms in, the hub form out: configuration, base LLM and weights found, matched and read.

Knows folders and names; the assembly of parts is ``build.py``'s, pickles are ``convert.py``'s. The surprises: explicit
arguments win over ``config.json``; the base LLM may be inside the checkpoint, beside it or elsewhere; and what is saved here
carries the LLM's configuration and tokenizer along, so that a full checkpoint loads without its base.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import torch

from NatureLM.config import ModelConfig, nearest, read_hub_config, validated
from NatureLM.errors import CheckpointError, ConfigError
from NatureLM.models.build import empty_model, qformer_shape
from NatureLM.models.convert import PICKLES, fresh_folder
from NatureLM.models.encoders.beats.file import open_beats
from NatureLM.models.hub import Lookup, Place, locate
from NatureLM.models.keymap import CONSTANTS, aliases_of, logical_name, published_of
from NatureLM.models.llm_files import base_entries, locate_llm
from NatureLM.models.lora import plain
from NatureLM.models.model import NatureLM
from NatureLM.models.qformer import QFormerShape
from NatureLM.models.weight_file import Entry, check_hash, open_weights
from NatureLM.models.weight_load import fill, shapes_of
from NatureLM.models.weight_plan import Holdings, plan_reads
from NatureLM.models.weight_write import Promise, write_file

QFORMER_HEADS = 12
"""BERT's default, which the published model uses; no published configuration says it."""


@dataclass(frozen=True)
class LoadOptions:
    """How a checkpoint is loaded.

    Attributes:
        lookup: How the hub is asked.
        device: Where the weights go.
        dtype: Dtype of the LLM and its LoRA; ``None`` keeps the files'.
        sha256: Expected hash of ``model.safetensors``; not checked when left out.
        qformer_heads: Attention heads of the Q-Former; by the checkpoint, else 12.
        config: Keys of ``config.json`` to override.
    """

    lookup: Lookup = field(default_factory=Lookup)
    device: torch.device | str = "cpu"
    dtype: torch.dtype | None = None
    sha256: str | None = None
    qformer_heads: int | None = None
    config: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, options: Mapping[str, Any]) -> LoadOptions:
        """Sort the keyword arguments of ``from_pretrained`` into what they are about.

        Raises:
            ConfigError: When nothing knows a name.
        """
        own = {
            f: options[f] for f in ("device", "dtype", "sha256", "qformer_heads") if f in options
        }
        if isinstance(own.get("dtype"), str):
            own["dtype"] = None if own["dtype"] == "auto" else getattr(torch, own["dtype"])
        asked = {k: v for k, v in options.items() if k in Lookup.__dataclass_fields__}
        rest = {k: v for k, v in options.items() if k not in own and k not in asked}
        for key in rest:
            if key not in ModelConfig.model_fields:
                known = [*cls.__dataclass_fields__, *Lookup.__dataclass_fields__]
                raise ConfigError(
                    f"from_pretrained: unknown argument {key!r}{nearest(key, [*known, *ModelConfig.model_fields])}"
                )
        return cls(Lookup(**asked), config=rest, **own)


@dataclass(frozen=True)
class Source:
    """A checkpoint that was found and whose configuration and headers were read.

    Attributes:
        place: Where it lies and what it is called.
        config: Its configuration, overrides applied.
        llm_folder: The base LLM's configuration and tokenizer, and perhaps weights.
        holdings: What its files hold.
        qformer_heads: Attention heads of the Q-Former.
    """

    place: Place
    config: ModelConfig
    llm_folder: Path
    holdings: Holdings
    qformer_heads: int


def load(
    name: str | Path, *, parity: Literal["default", "published"] = "default", **options: Any
) -> NatureLM:
    """Load a checkpoint: find it, build its parts without memory, fill them.

    Args:
        name: A hub name, or a folder.
        parity: ``published`` takes the reference's approximations along: how padding is counted in frames, and that
            padded spans are heard. The default hears what was recorded.
        **options: Fields of ``LoadOptions`` and ``Lookup``, and keys of ``config.json`` to override.

    Raises:
        CheckpointError: The weights do not fit, are damaged or are not there.
        ConfigError: An argument or a key of the configuration makes no sense.
    """
    how = LoadOptions.of(options)
    source = open_source(name, how)
    model = empty_model(source.config, source.llm_folder, qformer=_qformer_shape(source))
    model.name, model.revision = source.place.name, source.place.revision
    if parity == "published":
        model.encoder.padding_rule = "published"
    return fill_model(model, source, how)


def open_source(name: str | Path, options: LoadOptions | None = None) -> Source:
    """Find a checkpoint and its base LLM and read what is in them, but no weights.

    Args:
        name: A hub name, or a folder.
        options: How it is loaded.

    Raises:
        CheckpointError: When something is missing, damaged or still a pickle.
        ConfigError: When its configuration makes no sense.
    """
    options = options or LoadOptions()
    _refuse_pickles(Path(name))
    place = locate(name, options.lookup)
    config, heads = _configuration(place.folder, options)
    found = _open_model(place.folder, options.sha256)
    llm_folder = locate_llm(config.llama_path, place.folder, _llm_lookup(options.lookup))
    encoder: Mapping[str, Entry] = {}
    if config.beats_path and not any(k.startswith("beats.patch_embedding.") for k in found):
        encoder = open_beats(Path(config.beats_path).expanduser()).entries
    has_base = any(
        (llm_folder / n).is_file() for n in ("model.safetensors", "model.safetensors.index.json")
    )
    base = (lambda: base_entries(llm_folder)) if has_base else None
    holdings = Holdings(str(name), found, base, encoder)
    return Source(place, config, llm_folder, holdings, heads)


def fill_model(model: NatureLM, source: Source, options: LoadOptions | None = None) -> NatureLM:
    """Fill a model that was built without memory, and switch it to evaluation.

    Args:
        model: Built from ``source.config`` on the meta device.
        source: Where its weights lie.
        options: Device and dtype.

    Raises:
        CheckpointError: When a tensor is missing, has no home or the wrong shape.
    """
    options = options or LoadOptions()
    reads = plan_reads(shapes_of(model), source.holdings)
    fill(model, reads, options.device, options.dtype)
    return model.eval()


def save(model: NatureLM, folder: str | Path, *, include_llm: bool = True) -> Path:
    """Write a model in hub form: ``config.json`` and one ``model.safetensors``.

    Args:
        model: What ``from_pretrained`` gave, trained further or not.
        folder: Folder to make.
        include_llm: Whether the base LLM's weights go along; without them the folder is in published form.

    Raises:
        CheckpointError: When the model is of another kind, or the folder is there already.
    """
    config = model.config
    if not isinstance(config, ModelConfig):
        raise CheckpointError(
            f"{model.name or 'This model'} was not built from a published configuration, so hub form cannot hold it."
        )
    tensors = {published_of(k): v for k, v in model.state_dict().items()}
    if not include_llm:
        tensors = {k: v for k, v in tensors.items() if not _is_base(k)}
    promises = {k: Promise.of(v) for k, v in tensors.items()}
    promises[CONSTANTS[0]] = Promise.of(torch.arange(512)[None])
    layers = config.beats_cfg.encoder_layers
    dropped = {a: k for k in tensors for a in aliases_of(k, layers, lora=config.lora)}
    values = config.model_dump() | {"qformer_heads": model.qformer.layers[0].attention.heads}
    with fresh_folder(Path(folder)) as written:
        write_file(written / "model.safetensors", promises, dropped)
        text = json.dumps(values, indent=2, sort_keys=True)
        (written / "config.json").write_text(text, encoding="utf-8")
        _write_llm(model, written / "llama")
    return Path(folder)


def _write_llm(model: NatureLM, folder: Path) -> None:
    """Write the LLM's configuration and tokenizer, as the base had them."""
    llm = plain(model.llm)
    config = deepcopy(llm.config)
    config.vocab_size -= 1  # without [PAD]
    config.save_pretrained(folder)
    llm.generation_config.save_pretrained(folder)
    model.tokenizer.save_pretrained(folder)


def _is_base(published: str) -> bool:
    bare = logical_name(published)
    return bare.startswith("llama_model.") and ".lora_" not in bare


def _configuration(folder: Path, options: LoadOptions) -> tuple[ModelConfig, int]:
    path = folder / "config.json"
    if not path.is_file():
        if (folder / "model_config.yaml").is_file():
            raise CheckpointError(
                f"{folder}: is in folder form, whose weights are pickles. Run: naturelm models convert {folder} NEW_FOLDER"
            )
        raise CheckpointError(
            f"{folder}: holds no config.json, so it is no checkpoint of this model."
        )
    config = read_hub_config(path)
    if options.config:
        values = _merged(config.model_dump(), options.config)
        config = validated(ModelConfig, values, "from_pretrained")
    heads = options.qformer_heads or _recorded_heads(folder) or QFORMER_HEADS
    return config, heads


def _qformer_shape(source: Source) -> QFormerShape:
    """Read the Q-Former's sizes off its weights: BERT's defaults in the published model, in no configuration."""
    shape = replace(qformer_shape(source.config), heads=source.qformer_heads)
    found = source.holdings.checkpoint
    query = found.get("audio_query_tokens")
    layers = "audio_Qformer.bert.encoder.layer."
    inner = found.get(f"{layers}0.intermediate_query.dense.weight")
    if query is None or inner is None or query.shape[-1] % shape.heads:
        return shape
    depth = 1 + max(
        int(k.removeprefix(layers).split(".")[0]) for k in found if k.startswith(layers)
    )
    return replace(shape, width=query.shape[-1], layers=depth, feed_forward=inner.shape[0])


def _recorded_heads(folder: Path) -> int | None:
    """Read the Q-Former's heads where a folder says them: our own saves, and golden folders of tiny models."""
    own = json.loads((folder / "config.json").read_text(encoding="utf-8")).get("qformer_heads")
    golden = folder / "expected" / "golden.json"
    if own is None and golden.is_file():
        info = json.loads(golden.read_text(encoding="utf-8"))["info"]
        own = info["qformer_bert_config"]["num_attention_heads"]
    return None if own is None else int(own)


def _merged(values: dict[str, Any], overrides: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(values)
    for key, value in overrides.items():
        inner = isinstance(value, Mapping) and isinstance(merged.get(key), Mapping)
        merged[key] = {**merged[key], **value} if inner else _plain(value)
    return merged


def _plain(value: Any) -> Any:
    return str(value) if isinstance(value, Path) else value


def _open_model(folder: Path, sha256: str | None) -> Mapping[str, Entry]:
    for name in ("model.safetensors", "model.safetensors.index.json"):
        if (folder / name).is_file():
            if sha256 is not None:
                check_hash(folder / name, sha256)
            return open_weights(folder / name).entries
    pickled = [p for p in sorted(folder.iterdir()) if p.suffix in PICKLES]
    if pickled:
        raise CheckpointError(
            f"{pickled[0]}: is a pickle, which is only read by: naturelm models convert {pickled[0]} NEW_FOLDER"
        )
    raise CheckpointError(f"{folder}: holds no model.safetensors; was it fetched completely?")


def _refuse_pickles(path: Path) -> None:
    if path.suffix in PICKLES:
        raise CheckpointError(
            f"{path}: is a pickle, which is only read by: naturelm models convert {path} NEW_FOLDER"
        )


def _llm_lookup(lookup: Lookup) -> Lookup:
    return Lookup(None, lookup.token, lookup.cache_dir, lookup.local_files_only)
