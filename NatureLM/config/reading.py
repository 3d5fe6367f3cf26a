"""Published YAML and JSON files in, records out, and back; overrides ``section.key=value`` on the way.

Knows files and what may be wrong with them. The surprise: some keys of the published training files were never read by any
published code and are not in its own schema; they are left out with a warning, where every other unknown key is refused.
"""

from __future__ import annotations

import difflib
import json
import logging
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from NatureLM.config.records import ModelConfig, PublishedConfig
from NatureLM.errors import ConfigError

_LOG = logging.getLogger(__name__)
_M = TypeVar("_M", bound=BaseModel)

PUBLISHED = "EarthSpeciesProject/NatureLM-audio"
"""The published checkpoint's hub name."""
OWN_KEYS = frozenset(["qformer_heads"])
"""Keys of our own ``config.json`` files beside the published ones; read by what loads the weights."""
OBSOLETE = frozenset(
    [
        "multi_prompt",
        "prompt_path",
        "test_prompt_path",
        "resume_epoch",
        "resume_optimizer",
        "bandmask",
        "bandmask_prob",
        "revecho",
        "revecho_prob",
        "timescale",
        "timescale_prob",
        "flip",
        "flip_prob",
        "shift",
        "shift_prob",
    ]
)
"""Keys of the published training files that no published code reads; left out with a warning, wherever they stand."""


def read_config(path: str | Path, overrides: Sequence[str] = ()) -> PublishedConfig:
    """Read a published YAML file.

    Args:
        path: The file.
        overrides: ``section.key=value``; they win over the file. Values are YAML (``null``, ``False``, a JSON object that
            is merged into its section).

    Raises:
        ConfigError: A key is unknown, a value has the wrong type, or the file is no YAML mapping.
    """
    values = _without_obsolete(_read_mapping(Path(path)), str(path))
    for override in overrides:
        _override(values, override)
    where = f"{path} with {', '.join(overrides)}" if overrides else str(path)
    return validated(PublishedConfig, values, where)


def read_hub_config(path: str | Path) -> ModelConfig:
    """Read the flat ``config.json`` of a hub folder; keys that it does not know are passed over, as the hub's loader does.

    Raises:
        ConfigError: A required key is missing or a value has the wrong type.
    """
    values = _read_mapping(Path(path))
    known = {k: v for k, v in values.items() if k in ModelConfig.model_fields}
    for key in values.keys() - known.keys() - OWN_KEYS:
        _LOG.warning(
            "%s: %r is passed over%s", path, key, nearest(key, [*ModelConfig.model_fields])
        )
    for required in ("llama_path", "beats_cfg"):
        if required not in known:
            raise ConfigError(
                f"{path}: the key {required!r} is missing; is this a NatureLM-audio checkpoint?"
            )
    return validated(ModelConfig, known, str(path))


def checkpoint_of(
    model: ModelConfig, path: str | Path, set_by_hand: Collection[str] = ()
) -> tuple[str, dict[str, Any]]:
    """Say which checkpoint a published YAML file means.

    Args:
        model: Its ``model`` section.
        path: The file; what it names may lie beside it.
        set_by_hand: Keys that were overridden and so win over the checkpoint's own configuration.

    Returns:
        The name for ``NatureLM.from_pretrained`` and its keyword arguments.
    """
    folder = Path(path).parent
    beside = all((folder / name).is_file() for name in ("config.json", "model.safetensors"))
    name = model.ckpt or (str(folder) if beside else PUBLISHED)
    own = model.model_dump(exclude={"ckpt", "device"})
    options = {key: own[key] for key in set_by_hand if key in own}
    base = folder / model.llama_path
    return name, options | {"llama_path": str(base if base.exists() else model.llama_path)}


def write_config(config: PublishedConfig, path: str | Path) -> None:
    """Write a YAML file that ``read_config`` reads back; an existing file is never overwritten.

    Raises:
        ConfigError: The file exists.
    """
    try:
        with Path(path).open("x", encoding="utf-8") as file:
            yaml.safe_dump(config.model_dump(exclude_none=True), file, sort_keys=False)
    except FileExistsError as error:
        raise ConfigError(f"{path}: exists; choose another name or remove it first.") from error


def validated(kind: type[_M], values: Mapping[str, Any], where: str) -> _M:
    """Validate values, turning what is wrong into one message in the user's words.

    Raises:
        ConfigError: Names the first faulty key and, for an unknown one, the nearest that exists.
    """
    try:
        return kind.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        path = [str(part) for part in first["loc"]]
        name = ".".join(path)
        if first["type"] == "extra_forbidden":
            known = list(_section_of(kind, path).model_fields)
            raise ConfigError(f"{where}: unknown key {name!r}{nearest(path[-1], known)}") from None
        if first["type"] == "missing":
            raise ConfigError(f"{where}: the key {name!r} is missing.") from None
        raise ConfigError(f"{where}: {name} is {first['input']!r}: {first['msg']}.") from None


def nearest(name: str, known: Sequence[str]) -> str:
    """Write "; did you mean ...?" when a known name is near, else what is known; ends the sentence."""
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return f"; did you mean {near[0]!r}?" if near else f"; known are {', '.join(sorted(known))}."


def _section_of(kind: type[BaseModel], path: Sequence[str]) -> type[BaseModel]:
    """Walk down to the section that holds the last name of ``path``."""
    for part in path[:-1]:
        annotation = kind.model_fields[part].annotation
        candidates = [annotation, *getattr(annotation, "__args__", ())]
        kind = next(c for c in candidates if isinstance(c, type) and issubclass(c, BaseModel))
    return kind


def _read_mapping(path: Path) -> dict[str, Any]:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read ({error}).") from error
    try:
        values = json.loads(text) if path.suffix == ".json" else yaml.load(text, _Loader)  # noqa: S506 - a SafeLoader
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ConfigError(f"{path}: is not well formed: {error}") from error
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: holds {type(values).__name__}, not a mapping of keys.")
    return values


class _Loader(yaml.SafeLoader):
    """YAML's safe loader, refusing a key that is given twice instead of keeping the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """Build a mapping whose keys differ."""
        keys = [key.value for key, _ in node.value]
        twice = next((key for key in keys if key != "<<" and keys.count(key) > 1), None)
        if twice is not None:
            raise yaml.YAMLError(f"the key {twice!r} is given twice")
        return super().construct_mapping(node, deep)


def _without_obsolete(values: dict[str, Any], where: str) -> dict[str, Any]:
    kept = {}
    for key, value in values.items():
        if key in OBSOLETE:
            _LOG.warning("%s: %r is left out: nothing ever read it", where, key)
        else:
            kept[key] = _without_obsolete(value, where) if isinstance(value, dict) else value
    return kept


def _override(values: dict[str, Any], override: str) -> None:
    name, equals, text = override.partition("=")
    if not equals or not name.strip():
        raise ConfigError(f"override {override!r}: write section.key=value.")
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"override {override!r}: the value is not well formed.") from error
    *sections, key = name.strip().removeprefix("--").split(".")
    for section in sections:
        inner = values.get(section)
        if not isinstance(inner, dict):
            inner = values[section] = {}
        values = inner
    if isinstance(value, dict) and isinstance(values.get(key), dict):
        values[key] = {**values[key], **value}
    else:
        values[key] = value
