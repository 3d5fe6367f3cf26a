"""BEATs: log-mel patches through a transformer, the published model's ears (Chen et al. 2022, arXiv 2212.09058).

Knows waveforms and their lengths; nothing of windows, Q-Formers or files (checkpoint names are in ``models/keymap.py``).
The one surprise: the frames are 8 bands x time, frequency fastest, so 50 frames a second are 6.25 steps of 8 bands, and
the encoder's own LayerNorm stands behind the positional convolution, not at the end (MODEL specification, section 5).
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own name for it
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from NatureLM.errors import WindowError
from NatureLM.models.encoders.beats.attention import RelativePositionBias, SelfAttention
from NatureLM.models.encoders.beats.frontend import LogMel
from NatureLM.models.encoders.beats.shape import BEATsShape, PaddingRule

_ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "gelu": F.gelu,
    "relu": F.relu,
    "tanh": torch.tanh,
}


class PositionConvolution(nn.Module):
    """Grouped convolution over time whose kernel is normalised per tap (weight norm over output and input)."""

    def __init__(self, shape: BEATsShape) -> None:
        super().__init__()
        width, kernel = shape.encoder_embed_dim, shape.conv_pos
        self.groups = shape.conv_pos_groups
        self.bias = nn.Parameter(torch.zeros(width))
        self.weight_v = nn.Parameter(torch.empty(width, width // self.groups, kernel))
        self.weight_g = nn.Parameter(torch.empty(1, 1, kernel))

    def reset_parameters(self) -> None:
        """Draw the kernel; its norm becomes the gain, so that normalising changes nothing at first."""
        width, _, kernel = self.weight_v.shape
        nn.init.normal_(self.weight_v, std=math.sqrt(4 / (kernel * width)))
        nn.init.zeros_(self.bias)
        with torch.no_grad():
            self.weight_g.copy_(self.weight_v.norm(dim=(0, 1), keepdim=True))

    def forward(
        self, x: Float[Tensor, "batch length width"]
    ) -> Float[Tensor, "batch length width"]:
        """Encode where things are; what lies outside counts as zero."""
        weight = self.weight_g * self.weight_v / self.weight_v.norm(dim=(0, 1), keepdim=True)
        kernel = weight.shape[-1]
        out = F.conv1d(
            x.transpose(1, 2), weight, self.bias, padding=kernel // 2, groups=self.groups
        )
        out = out[..., : x.shape[1]]
        return F.gelu(out.float()).to(out.dtype).transpose(1, 2)


class Layer(nn.Module):
    """Attention and feed-forward, each with its residual and LayerNorm."""

    def __init__(self, shape: BEATsShape) -> None:
        super().__init__()
        width = shape.encoder_embed_dim
        self.shape = shape
        self.activation = _ACTIVATIONS[shape.activation_fn]
        self.self_attn = SelfAttention(shape)
        self.self_attn_layer_norm = nn.LayerNorm(width)
        self.fc1 = nn.Linear(width, shape.encoder_ffn_embed_dim)
        self.fc2 = nn.Linear(shape.encoder_ffn_embed_dim, width)
        self.final_layer_norm = nn.LayerNorm(width)

    def forward(
        self,
        x: Float[Tensor, "batch length width"],
        position_bias: Float[Tensor, "heads length length"] | None,
        padded: Bool[Tensor, "batch length"] | None,
    ) -> Float[Tensor, "batch length width"]:
        """Run one layer."""
        shape = self.shape
        if shape.layer_norm_first:
            x = x + self._drop(self.self_attn(self.self_attn_layer_norm(x), position_bias, padded))
            return x + self._drop(self._feed_forward(self.final_layer_norm(x)))
        mixed = self._drop(self.self_attn(x, position_bias, padded))
        x = self.self_attn_layer_norm(shape.residual_scale * x + mixed)
        return self.final_layer_norm(shape.residual_scale * x + self._drop(self._feed_forward(x)))

    def _feed_forward(self, x: Tensor) -> Tensor:
        inner = self.fc1(x)
        inner = self.activation(inner.float()).to(inner.dtype)
        return self.fc2(F.dropout(inner, self.shape.activation_dropout, self.training))

    def _drop(self, x: Tensor) -> Tensor:
        return F.dropout(x, self.shape.dropout, self.training)


class Transformer(nn.Module):
    """The stack of layers behind one positional convolution."""

    def __init__(self, shape: BEATsShape) -> None:
        super().__init__()
        self.shape = shape
        self.pos_conv = PositionConvolution(shape)
        self.relative_attention_bias = (
            RelativePositionBias(shape) if shape.relative_position_embedding else None
        )
        self.layers = nn.ModuleList(Layer(shape) for _ in range(shape.encoder_layers))
        self.layer_norm = nn.LayerNorm(shape.encoder_embed_dim)

    def forward(
        self,
        x: Float[Tensor, "batch length width"],
        padded: Bool[Tensor, "batch length"] | None = None,
    ) -> Float[Tensor, "batch length width"]:
        """Contextualise patches; padded positions come out finite and meaningless."""
        shape = self.shape
        if padded is not None:
            x = x.masked_fill(padded[..., None], 0.0)
        x = x + self.pos_conv(x)
        if not shape.layer_norm_first:
            x = self.layer_norm(x)
        x = F.dropout(x, shape.dropout, self.training)
        shared = self.relative_attention_bias
        position_bias = None if shared is None else shared.table(x.shape[1])
        for layer in self.layers:
            x = _scale_gradient(x, shape.layer_wise_gradient_decay_ratio)
            if not (self.training and torch.rand(()).item() < shape.encoder_layerdrop):
                x = layer(x, position_bias, padded)
        return self.layer_norm(x) if shape.layer_norm_first else x


class BEATs(nn.Module):
    """Encode waveforms into frames, 50 a second.

    Frozen (no parameter wants a gradient), it stays in evaluation mode whatever ``train()`` is told, so that neither
    dropout nor layerdrop ever wakes it.

    Attributes:
        shape: Sizes and switches it was built with.
        width: Width of a frame.
        sample_rate: Rate of the waveforms, in Hz.
        frames_per_second: Nominal, from 8 frames every 160 ms.
        padding_rule: How a waveform's length becomes a count of frames. ``exact``: the frames that the waveform would
            have alone, which makes them independent of how far it was padded. ``published``: the reference's
            approximation by equal shares of the padded length (MODEL specification, section 5, rule 2).
    """

    def __init__(self, shape: BEATsShape | None = None) -> None:
        super().__init__()
        self.shape = shape = shape or BEATsShape()
        self.width = shape.encoder_embed_dim
        self.sample_rate = shape.sample_rate
        self.frames_per_second = 100.0 / shape.input_patch_size * shape.bands
        self.padding_rule: PaddingRule = "exact"
        self.log_mel = LogMel(shape.sample_rate, shape.mel_bins)
        side = shape.input_patch_size
        self.patch_embedding = nn.Conv2d(
            1, shape.embed_dim, kernel_size=side, stride=side, bias=shape.conv_bias
        )
        self.layer_norm = nn.LayerNorm(shape.embed_dim)
        same = shape.embed_dim == shape.encoder_embed_dim
        self.post_extract_proj = (
            None if same else nn.Linear(shape.embed_dim, shape.encoder_embed_dim)
        )
        self.encoder = Transformer(shape)
        self.predictor = (
            nn.Linear(shape.encoder_embed_dim, shape.predictor_class)
            if shape.finetuned_model
            else None
        )
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw fresh weights as the reference does (MODEL specification, section 5, rule 8)."""
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Embedding):
                nn.init.normal_(module.weight, std=0.02)
                if isinstance(module, nn.Linear):
                    nn.init.zeros_(module.bias)
        self.encoder.pos_conv.reset_parameters()
        if self.shape.deep_norm:
            for layer in self.encoder.layers:
                _reset_for_deep_norm(layer, (8 * self.shape.encoder_layers) ** -0.25)

    def forward(
        self,
        waveforms: Float[Tensor, "batch samples"],
        lengths: Int[Tensor, " batch"],
    ) -> tuple[Float[Tensor, "batch frames width"], Int[Tensor, " batch"]]:
        """Encode waveforms.

        Args:
            waveforms: In [-1, 1] at ``sample_rate``, padded at the end; float64 gives an exact front end.
            lengths: True samples of each. Full lengths leave every frame attended, padding included.

        Returns:
            The frames, padded at the end, and how many of each row are true. A row too short for one frame has none.

        Raises:
            WindowError: When even the padded waveforms are too short for one frame.
        """
        patches = self.patches(self.log_mel(self._long_enough(waveforms)))
        counts = self.frames_in(lengths, waveforms.shape[1])
        padded = self._padding(counts, patches.shape[1])
        return self.encoder(patches, padded), counts

    def patches(
        self, mel: Float[Tensor, "batch mel_frames mel_bins"]
    ) -> Float[Tensor, "batch frames width"]:
        """Embed square patches of a log-mel spectrogram; time is slow, frequency fast."""
        weight = self.patch_embedding.weight
        grid = self.patch_embedding(mel.to(weight.dtype)[:, None])
        x = self.layer_norm(grid.flatten(2).transpose(1, 2))
        if self.post_extract_proj is not None:
            x = self.post_extract_proj(x)
        return F.dropout(x, self.shape.dropout_input, self.training)

    def frames_in(self, lengths: Int[Tensor, " batch"], padded_to: int) -> Int[Tensor, " batch"]:
        """Count the true frames of waveforms of ``lengths`` samples, padded to ``padded_to``."""
        total = self._frames_alone(torch.tensor(padded_to, device=lengths.device))
        if self.padding_rule == "exact":
            return torch.minimum(self._frames_alone(lengths), total)
        mel = self.log_mel.frames_in(padded_to)
        share = padded_to // int(mel)
        mel_counts = ((lengths + share - 1) // share).clamp_max(int(mel))
        group = int(mel) // int(total)
        return torch.minimum((mel_counts + group - 1) // group, total)

    def classify(
        self, frames: Float[Tensor, "batch frames width"], counts: Int[Tensor, " batch"]
    ) -> Float[Tensor, "batch classes"]:
        """Give the fine-tuned head's probability of each class, over the true frames.

        Raises:
            WindowError: When this encoder has no head.
        """
        if self.predictor is None:
            raise WindowError("This BEATs was not fine-tuned: it has no classes to predict.")
        logits = self.predictor(F.dropout(frames, self.shape.predictor_dropout, self.training))
        padded = self._padding(counts, frames.shape[1])
        if padded is None:
            return logits.mean(1).sigmoid()
        summed = logits.masked_fill(padded[..., None], 0.0).sum(1)
        return (summed / (~padded).sum(1, keepdim=True)).sigmoid()

    def train(self, mode: bool = True) -> BEATs:
        """Switch to training mode, unless frozen."""
        return super().train(mode and any(p.requires_grad for p in self.parameters()))

    def _frames_alone(self, samples: Tensor) -> Tensor:
        mel: Tensor = torch.as_tensor(self.log_mel.frames_in(samples))
        return mel // self.shape.input_patch_size * self.shape.bands

    def _padding(self, counts: Tensor, length: int) -> Tensor | None:
        if bool((counts == length).all()):
            return None
        # A row without any true frame reads its first one: finite where the reference has NaN.
        return torch.arange(length, device=counts.device) >= counts.clamp_min(1)[:, None]

    def _long_enough(self, waveforms: Tensor) -> Tensor:
        mel, samples = self.log_mel, waveforms.shape[1]
        least = mel.frame_samples + (self.shape.input_patch_size - 1) * mel.hop_samples
        if samples < least:
            raise WindowError(
                f"{samples / self.sample_rate:.3f} s of audio ({samples} samples) make no frame; BEATs needs at least {least} samples ({least / self.sample_rate:.3f} s)."
            )
        return waveforms


class _ScaleGradient(torch.autograd.Function):
    """Identity whose gradient is multiplied by a factor."""

    @staticmethod
    def forward(ctx: torch.autograd.function.FunctionCtx, x: Tensor, factor: float) -> Tensor:
        """Pass ``x`` through."""
        ctx.factor = factor  # type: ignore[attr-defined]
        return x.view_as(x)

    @staticmethod
    def backward(ctx: torch.autograd.function.FunctionCtx, *grads: Tensor) -> tuple[Tensor, None]:
        """Scale the gradient."""
        return grads[0] * ctx.factor, None  # type: ignore[attr-defined]


def _scale_gradient(x: Tensor, factor: float) -> Tensor:
    if factor == 1.0 or not (torch.is_grad_enabled() and x.requires_grad):
        return x
    scaled: Tensor = _ScaleGradient.apply(x, factor)
    return scaled


def _reset_for_deep_norm(layer: nn.Module, gain: float) -> None:
    attention = layer.get_submodule("self_attn")
    for name, value in (("q_proj", 1.0), ("k_proj", 1.0), ("v_proj", gain), ("out_proj", gain)):
        nn.init.xavier_normal_(attention.get_parameter(f"{name}.weight"), gain=value)
    for name in ("fc1", "fc2"):
        nn.init.xavier_normal_(layer.get_parameter(f"{name}.weight"), gain=gain)
