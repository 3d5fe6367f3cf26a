"""Sizes and switches of a BEATs encoder, by their published names.

Knows no torch and reads no file. The one surprise: the defaults are those of the published NatureLM-audio configuration,
not of the original BEATs class, whose own fallbacks differ and never apply (MODEL specification, section 2.2).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal

from NatureLM.errors import ConfigError

PaddingRule = Literal["exact", "published"]
"""How lengths in samples become lengths in frames: see ``BEATs``."""

ACTIVATIONS = ("gelu", "relu", "tanh")


@dataclass(frozen=True)
class BEATsShape:
    """Sizes and switches of a BEATs encoder (Chen et al. 2022).

    Attributes:
        input_patch_size: Side of a square patch, in mel bins and in 10 ms frames.
        embed_dim: Channels of the patch embedding.
        conv_bias: Whether the patch embedding has a bias.
        encoder_layers: Transformer layers.
        encoder_embed_dim: Width of the transformer.
        encoder_ffn_embed_dim: Inner width of the feed-forward part.
        encoder_attention_heads: Attention heads.
        activation_fn: ``gelu``, ``relu`` or ``tanh``.
        layer_wise_gradient_decay_ratio: Factor on the gradient of every layer's input.
        layer_norm_first: Normalise before instead of after each half of a layer.
        deep_norm: Scale the residual by ``(2 * layers) ** 0.25`` (DeepNet).
        dropout: Dropout after attention and feed-forward.
        attention_dropout: Dropout on the attention weights.
        activation_dropout: Dropout inside the feed-forward part.
        encoder_layerdrop: Probability of leaving a layer out in training.
        dropout_input: Dropout on the projected patches.
        conv_pos: Kernel of the positional convolution, in patches.
        conv_pos_groups: Groups of the positional convolution.
        relative_position_embedding: Add a bucketed relative position bias.
        num_buckets: Buckets of that bias, both directions together.
        max_distance: Distance from which on all patches share the last bucket.
        gru_rel_pos: Gate the bias by the query.
        finetuned_model: Whether the checkpoint holds a classifier head.
        predictor_dropout: Dropout before the head.
        predictor_class: Classes of the head.
        sample_rate: Rate of the waveforms in Hz; 16000 for all published checkpoints but those trained at 32000.
        mel_bins: Mel filters.
    """

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
    sample_rate: int = 16000
    mel_bins: int = 128

    def __post_init__(self) -> None:
        if self.activation_fn not in ACTIVATIONS:
            raise ConfigError(
                f"beats_cfg.activation_fn is {self.activation_fn!r}; this encoder knows {', '.join(ACTIVATIONS)}."
            )
        for divisor in ("encoder_attention_heads", "conv_pos_groups"):
            if self.encoder_embed_dim % getattr(self, divisor):
                raise ConfigError(
                    f"beats_cfg.encoder_embed_dim is {self.encoder_embed_dim}, which beats_cfg.{divisor} = {getattr(self, divisor)} does not divide."
                )

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> BEATsShape:
        """Read the shape from a configuration's ``beats_cfg`` section or an original file's ``cfg``.

        Args:
            values: Published names and values; names that say nothing about the shape are passed over, since original
                files carry knobs of their pre-training too.

        Raises:
            ConfigError: When a value makes no sense.
        """
        known = {f.name for f in fields(cls)}
        return cls(**{k: v for k, v in values.items() if k in known})

    @property
    def bands(self) -> int:
        """Patches side by side in frequency."""
        return self.mel_bins // self.input_patch_size

    @property
    def residual_scale(self) -> float:
        """DeepNorm's factor on the residual."""
        return float((2 * self.encoder_layers) ** 0.25) if self.deep_norm else 1.0
