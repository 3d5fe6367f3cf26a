"""The records: how an answer is decoded, and the sections of the published files, by their published names.

Knows names, types and defaults (MODEL specification, section 2), nothing of torch or files. The surprise: a finished record
does not change, and no record reads the environment.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator
from pydantic_core import PydanticCustomError

from NatureLM.errors import ConfigError


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
            if not 0 < getattr(self, name) < float("inf"):
                raise ConfigError(f"{name} is {getattr(self, name)}; it must be above 0.")
        if self.top_p > 1:
            raise ConfigError(f"top_p is {self.top_p}; it is a share, at most 1.")


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
    """``run``. What only says how to watch a run has a default, since the shipped training files leave some of it out."""

    wandb_enabled: bool = True
    amp: bool = False
    seed: int
    output_dir: str
    evaluate: bool = False
    log_freq: int = 5
    epoch_based: bool
    iters_per_epoch: int
    accum_grad_iters: int
    batch_size_train: int
    batch_size_eval: int
    num_workers: int
    custom_metrics: bool = False
    decode_ratio: float = 1.0
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
    """``datasets``. Whether the manifests exist is found out when they are opened, not when a file names them."""

    train_ann_path: str
    valid_ann_path: str
    test_ann_path: str
    audio_max_length_seconds: int

    @field_validator("train_ann_path", "valid_ann_path", "test_ann_path")
    @classmethod
    def _jsonl(cls, value: str) -> str:
        if not value.lower().endswith(".jsonl"):
            raise PydanticCustomError("manifest", "a manifest's name ends in .jsonl")
        return value


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
