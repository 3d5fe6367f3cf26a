"""Every knob of a model and a run, validated: the published YAML and JSON files in, one strict record out.

Knows names, types and defaults (MODEL specification, section 2), nothing of torch. The surprises: environment variables are
never read, and keys of the published training files that nothing ever used are left out with a warning instead of refused.
"""

from __future__ import annotations

import difflib
import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from NatureLM.errors import ConfigError

_LOG = logging.getLogger(__name__)
_M = TypeVar("_M", bound=BaseModel)

OBSOLETE = frozenset(
    [
        "multi_prompt",
        "prompt_path",
        "test_prompt_path",
        "resume_epoch",
        "resume_optimizer",
        "bandmask",
        "revecho",
        "timescale",
        "flip",
        "bandmask_prob",
        "revecho_prob",
        "timescale_prob",
        "flip_prob",
        "shift_prob",
        "run_name",
        "whisper_path",
        "second_stride_ratio",
    ]
)
"""Keys of the published training files that no published code reads."""


@dataclass(frozen=True)
class Generation:
    """How an answer is decoded.

    Attributes:
        max_new_tokens: Tokens at most.
        num_beams: Beams; 1 is greedy (or sampling).
        do_sample: Draw instead of taking the most probable token.
        temperature: Flattens (above 1) or sharpens the draw.
        top_p: Draw among the most probable tokens that reach this share together.
        repetition_penalty: Above 1 makes said tokens less probable.
        length_penalty: Above 0 favours longer beams.
        seed: Of the draw; ``None`` draws anew every time.
        stop_rule: ``published`` repeats the reference: the batch stops when its first row says token 2.
    """

    max_new_tokens: int = 300
    num_beams: int = 1
    do_sample: bool = False
    temperature: float = 1.0
    top_p: float = 0.9
    repetition_penalty: float = 1.0
    length_penalty: float = 1.0
    seed: int | None = None
    stop_rule: Literal["row", "published"] = "row"

    def __post_init__(self) -> None:
        for name, least in (("max_new_tokens", 1), ("num_beams", 1)):
            if getattr(self, name) < least:
                raise ConfigError(f"{name} is {getattr(self, name)}; it must be at least {least}.")
        for name in ("temperature", "top_p", "repetition_penalty"):
            if not getattr(self, name) > 0:
                raise ConfigError(f"{name} is {getattr(self, name)}; it must be above 0.")


class _Strict(BaseModel):
    """Unknown keys are errors; a finished record does not change."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())


class BEATsConfig(_Strict):
    """The encoder's sizes and switches, by their published names."""

    input_patch_size: int = 16
    embed_dim: int = 512
    conv_bias: bool = False
    encoder_layers: int = 12
    encoder_embed_dim: int = 768
    encoder_ffn_embed_dim: int = 3072
    encoder_attention_heads: int = 12
    activation_fn: str = "gelu"
    layer_wise_gradient_decay_ratio: float = 0.6
    layer_norm_first: bool = False
    deep_norm: bool = True
    dropout: float = 0.0
    attention_dropout: float = 0.0
    activation_dropout: float = 0.0
    encoder_layerdrop: float = 0.05
    dropout_input: float = 0.0
    conv_pos: int = 128
    conv_pos_groups: int = 16
    relative_position_embedding: bool = True
    num_buckets: int = 320
    max_distance: int = 800
    gru_rel_pos: bool = True
    finetuned_model: bool = True
    predictor_dropout: float = 0.0
    predictor_class: int = 527

    @field_validator("input_patch_size")
    @classmethod
    def _set(cls, value: int) -> int:
        return 16 if value == -1 else value


class ModelConfig(_Strict):
    """The published ``model`` section, which is also the flat ``config.json`` of the hub."""

    llama_path: str
    beats_cfg: BEATsConfig = Field(default_factory=BEATsConfig)
    beats_path: str | None = None
    ckpt: str | None = None
    freeze_beats: bool = True
    use_audio_Qformer: bool = True  # noqa: N815 - the published key
    max_pooling: bool = False
    downsample_factor: int = 4
    freeze_audio_QFormer: bool = False  # noqa: N815 - the published key
    window_level_Qformer: bool = True  # noqa: N815 - the published key
    num_audio_query_token: int = 1
    second_per_window: float = 0.333333
    second_stride: float = 0.333333
    audio_llama_proj_model: str | None = None
    freeze_audio_llama_proj: bool = False
    device: str = "cuda"
    lora: bool = True
    lora_rank: int = 8
    lora_alpha: int = 32
    lora_dropout: float = 0.1
    flash_attn: Literal["eager", "sdpa", "flash_attention_2"] = "eager"
    prompt_template: str = ""
    max_txt_len: int = 128
    end_sym: str = "</s>"
    audio_encoding_cache_size: int = 0

    @field_validator("ckpt", "beats_path", "audio_llama_proj_model", mode="before")
    @classmethod
    def _absent(cls, value: object) -> object:
        return value or None

    @property
    def span_frames(self) -> int:
        """Frames a span: 50 a second, as the reference counts them."""
        return round(1500 * self.second_per_window / 30)

    @property
    def stride_frames(self) -> int:
        """Frames between span starts."""
        return round(1500 * self.second_stride / 30)


class OptimsConfig(_Strict):
    """``run.optims``."""

    max_epoch: int
    warmup_steps: int
    warmup_start_lr: float = -1.0
    init_lr: float
    min_lr: float
    weight_decay: float
    beta2: float = 0.999
    max_grad_norm: float | None = None
    max_grad_value: float | None = None
    device: str = "cuda"


class AugmentationsConfig(_Strict):
    """``run.augmentations``."""

    use_augmentation: bool = False
    noise_prob: float = 0.0
    noise_dirs: list[str] | None = None
    low_snr: float = -5.0
    high_snr: float = 20.0
    time_scale_prob: float = 0.0
    time_scale: float = 1.2
    mixup_prob: float = 0.0
    mixup_count: int = 3
    mask_audio_prob: float = 0.0


class RunConfig(_Strict):
    """``run``."""

    wandb_enabled: bool = True
    amp: bool = False
    seed: int
    output_dir: str
    evaluate: bool
    log_freq: int
    epoch_based: bool
    iters_per_epoch: int
    accum_grad_iters: int
    batch_size_train: int
    batch_size_eval: int
    num_workers: int
    custom_metrics: bool
    decode_ratio: float
    device: Literal["cuda", "cpu"] = "cuda"
    use_distributed: bool = False
    world_size: int = 1
    rank: int = 0
    gpu: int | None = None
    dist_backend: Literal["nccl"] = "nccl"
    dist_url: str = "env://"
    optims: OptimsConfig
    augmentations: AugmentationsConfig = Field(default_factory=AugmentationsConfig)


class DatasetsConfig(_Strict):
    """``datasets``."""

    train_ann_path: str
    valid_ann_path: str
    test_ann_path: str
    audio_max_length_seconds: int


class GenerateConfig(_Strict):
    """``generate``. ``min_length`` never had an effect and ``temperature`` has one only when sampling."""

    max_new_tokens: int
    num_beams: int
    do_sample: bool
    min_length: int
    temperature: float
    repetition_penalty: float
    length_penalty: float
    merging_alpha: float = 1.0

    def generation(self) -> Generation:
        """Say the same as a ``Generation``."""
        same = ("max_new_tokens", "num_beams", "do_sample", "repetition_penalty", "length_penalty")
        values = {name: getattr(self, name) for name in same}
        return Generation(**values, temperature=self.temperature if self.do_sample else 1.0)


class PublishedConfig(_Strict):
    """A published YAML file: ``model`` and, where given, ``run``, ``datasets`` and ``generate``."""

    model: ModelConfig
    run: RunConfig | None = None
    datasets: DatasetsConfig | None = None
    generate: GenerateConfig | None = None


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
    return validated(PublishedConfig, values, str(path))


def read_hub_config(path: str | Path) -> ModelConfig:
    """Read the flat ``config.json`` of a hub folder; keys that it does not know are passed over, as the hub's loader does.

    Raises:
        ConfigError: A required key is missing or a value has the wrong type.
    """
    values = _read_mapping(Path(path))
    known = {k: v for k, v in values.items() if k in ModelConfig.model_fields}
    for required in ("llama_path", "beats_cfg"):
        if required not in known:
            raise ConfigError(
                f"{path}: the key {required!r} is missing; is this a NatureLM-audio checkpoint?"
            )
    return validated(ModelConfig, known, str(path))


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
            raise ConfigError(f"{where}: unknown key {name!r}{_nearest(kind, path)}.") from None
        if first["type"] == "missing":
            raise ConfigError(f"{where}: the key {name!r} is missing.") from None
        raise ConfigError(f"{where}: {name} is {first['input']!r}: {first['msg']}.") from None


def nearest(name: str, known: Sequence[str]) -> str:
    """Write "; did you mean ...?" when a known name is near, else what is known."""
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return f"; did you mean {near[0]!r}?" if near else f"; known are {', '.join(sorted(known))}"


def _nearest(kind: type[BaseModel], path: Sequence[str]) -> str:
    for part in path[:-1]:
        annotation = kind.model_fields[part].annotation
        candidates = [annotation, *getattr(annotation, "__args__", ())]
        kind = next(c for c in candidates if isinstance(c, type) and issubclass(c, BaseModel))
    return nearest(path[-1], list(kind.model_fields)).rstrip("?") + (
        "?" if "mean" in nearest(path[-1], list(kind.model_fields)) else ""
    )


def _read_mapping(path: Path) -> dict[str, Any]:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read ({error}).") from error
    try:
        values = json.loads(text) if path.suffix == ".json" else yaml.safe_load(text)
    except (yaml.YAMLError, json.JSONDecodeError) as error:
        raise ConfigError(f"{path}: is not well formed: {error}") from error
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: holds {type(values).__name__}, not a mapping of keys.")
    return values


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
