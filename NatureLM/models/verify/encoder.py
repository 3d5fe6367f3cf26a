"""Stages from the waveform to the audio tokens: log-mel, every BEATs layer, padded batches, Q-Former, projection.

Knows the encoder and the Q-Former alone, built from the folder's weights without the LLM, so that a fault is seen where it
arises. The one surprise: padded batches are recomputed under the reference's own padding rule, which the model's default
does not use.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from NatureLM.models.encoders.beats import BEATs, BEATsShape
from NatureLM.models.encoders.beats.attention import relative_buckets
from NatureLM.models.encoders.beats.frontend import LogMel
from NatureLM.models.keymap import ours_of
from NatureLM.models.qformer import QFormer, QFormerShape
from NatureLM.models.verify.beats import fill_by_formula, formula_waveform, published_parameters
from NatureLM.models.verify.golden import (
    MEL_ATOL,
    MEL_ATOL_FLOAT32,
    RATE_HZ,
    STAGE_ATOL,
    Check,
    Golden,
    compare,
    compare_exactly,
)
from NatureLM.models.weight_file import read_tensor

BEATS_TOKENS_PER_30_S = 1500
"""The reference counts spans in 50 frames a second (MODEL specification, section 6, rule 2)."""


@dataclass(frozen=True)
class Ears:
    """What turns waveforms into audio tokens.

    Attributes:
        encoder: BEATs.
        frame_norm: LayerNorm on its frames.
        qformer: Frames to queries.
        projector: Queries to the LLM's width.
    """

    encoder: BEATs
    frame_norm: nn.Module
    qformer: QFormer
    projector: nn.Module

    def tokens(self, waveforms: Tensor, lengths: Tensor) -> Tensor:
        """Encode as the reference does: every span counts, padding included."""
        frames, _ = self.encoder(waveforms, lengths)
        return self.projector(self.qformer(self.frame_norm(frames)))


def ears_of(golden: Golden) -> Ears:
    """Build encoder, Q-Former and projector from the folder's weights."""
    entries = golden.weights()
    weights = {
        ours: read_tensor(entry)
        for name, entry in entries.items()
        if (ours := ours_of(name)) is not None and not ours.startswith("llm.")
    }
    encoder = BEATs(BEATsShape.of(golden.config["beats_cfg"]))
    encoder.padding_rule = "published"
    shape = qformer_shape(golden)
    width, llm_width = shape.frame_width, weights["projector.weight"].shape[0]
    ears = Ears(encoder, nn.LayerNorm(width), QFormer(shape), nn.Linear(shape.width, llm_width))
    for name in ("encoder", "frame_norm", "qformer", "projector"):
        part = {
            k.removeprefix(f"{name}."): v for k, v in weights.items() if k.startswith(f"{name}.")
        }
        module: nn.Module = getattr(ears, name)
        module.load_state_dict(part, strict=True)
        module.eval().requires_grad_(False)
    return ears


def qformer_shape(golden: Golden) -> QFormerShape:
    """Read the Q-Former's sizes; the reference takes them from BERT's defaults, so no configuration file has them."""
    sizes, config = golden.info["qformer_bert_config"], golden.config
    return QFormerShape(
        width=sizes["hidden_size"],
        heads=sizes["num_attention_heads"],
        layers=sizes["num_hidden_layers"],
        feed_forward=sizes["intermediate_size"],
        frame_width=sizes["encoder_width"],
        queries=config.get("num_audio_query_token", 1),
        span_frames=round(BEATS_TOKENS_PER_30_S * config.get("second_per_window", 0.333333) / 30),
        stride_frames=round(BEATS_TOKENS_PER_30_S * config.get("second_stride", 0.333333) / 30),
        layer_norm_eps=sizes["layer_norm_eps"],
    )


@torch.no_grad()
def check_front_end(golden: Golden) -> Iterator[Check]:
    """Log-mel frames, their constants and the buckets of the position bias."""
    mel, recorded = LogMel(), golden.tensors("encode_single")["fbank"]
    waveform = golden.waveform(golden.single_file)[None]
    yield compare("fbank", mel(waveform), recorded, MEL_ATOL)
    yield compare("fbank from float32", mel(waveform.float()), recorded, MEL_ATOL_FLOAT32)
    with torch.autocast("cpu", torch.bfloat16):
        yield compare("fbank under autocast", mel(waveform.float()), recorded, MEL_ATOL_FLOAT32)
    facts = golden.misc["fbank_facts"]
    silence = mel(torch.zeros(1, mel.frame_samples, dtype=torch.float64))
    yield compare("fbank of silence", silence[0, 0, 0], facts["silence_value_normalised"], MEL_ATOL)
    counts = {k: int(mel.frames_in(int(k))) for k in facts["frames"]}
    yield compare_exactly("fbank frame counts", counts, facts["frames"])
    for key, table in golden.misc.items():
        if key.startswith("rel_bucket_"):
            buckets, furthest = (int(n) for n in key.split("_")[2:])
            found = relative_buckets(torch.tensor(table["rel"]), buckets, furthest).tolist()
            yield compare_exactly(f"position buckets {buckets}/{furthest}", found, table["bucket"])


@torch.no_grad()
def check_single(golden: Golden) -> Iterator[Check]:
    """Every stage of one unpadded window, from patches to audio tokens."""
    ears, recorded = ears_of(golden), golden.tensors("encode_single")
    seen = _watch(ears)
    waveform = golden.waveform(golden.single_file)[None]
    tokens = ears.tokens(waveform, torch.tensor([waveform.shape[1]]))
    seen["audio_embeds"] = tokens
    seen["qformer.encoder_hidden_states"] = ears.qformer._spans(seen["ln_audio"], None)[0]  # noqa: SLF001 - what the layers read
    yield from _compare_beats(ears.encoder, seen, recorded)
    for name, value in recorded.items():
        if name in seen and not name.startswith("beats."):
            found = seen[name][: len(value)] if name == "qformer.embeddings" else seen[name]
            yield compare(name, found, value, STAGE_ATOL)
    for name in ("qformer.encoder_attention_mask", "audio_atts"):
        if name in recorded:
            source = "qformer.encoder_hidden_states" if name.startswith("q") else "audio_embeds"
            ones = torch.ones(seen[source].shape[:2])
            yield compare(name, ones, recorded[name], 0.0)


@torch.no_grad()
def check_padded_batch(golden: Golden) -> Iterator[Check]:
    """Windows of unequal length in one batch, masked as the reference masks them."""
    ears, recorded = ears_of(golden), golden.tensors("encode_padded_batch")
    seen = _watch(ears)
    tokens = ears.tokens(*golden.batch(golden.samples["files"], golden.samples["lengths"]))
    seen["audio_embeds"] = tokens
    for check in _compare_beats(ears.encoder, seen, recorded):
        yield Check(f"padded: {check.stage}", check.difference, check.tolerance, check.note)
    yield compare("padded: audio_embeds", tokens, recorded["audio_embeds"], STAGE_ATOL)


@torch.no_grad()
def check_ten_seconds(golden: Golden) -> Iterator[Check]:
    """A short recording padded to ten seconds whose silence is heard, as the published pipeline hears it."""
    recorded = golden.tensors("model_fp32").get("padded10s.audio_embeds")
    if recorded is None:
        return
    ears = ears_of(golden)
    found = []
    for name in golden.samples["files"]:  # the folder does not say which file it was
        waveform, _ = golden.batch([name], [len(golden.waveform(name))])
        padded = nn.functional.pad(waveform, (0, 10 * RATE_HZ - waveform.shape[1]))
        tokens = ears.tokens(padded, torch.tensor([padded.shape[1]]))
        found.append(compare("padded to 10 s: audio_embeds", tokens, recorded, STAGE_ATOL, name))
    yield min(found, key=lambda check: check.difference)


@torch.no_grad()
def check_real_size(golden: Golden) -> Iterator[Check]:
    """BEATs of the real size, its weights made by a formula."""
    recorded = golden.json("expected/beats_real_size.json")
    beats = fill_by_formula(BEATs(BEATsShape()), recorded["variant"]["S"])
    beats.padding_rule = "published"
    names = sorted(name for name, _ in published_parameters(beats))
    yield compare_exactly("real size: names", names, sorted(recorded["state_dict_names"]))
    waveform = formula_waveform(recorded["variant"])
    yield from _compare_mel(beats.log_mel(waveform)[0], recorded["fbank"])
    norms: list[float] = []
    for layer in beats.encoder.layers:
        layer.register_forward_hook(lambda _m, _i, out: norms.append(float(out.norm())))
    full, counts = beats(waveform, torch.tensor([waveform.shape[1]]))
    expected_norms = recorded["layer_output_norms"]
    ratio = [a / b for a, b in zip(norms, expected_norms, strict=True)]
    yield compare("real size: layer norms", ratio, [1.0] * len(ratio), STAGE_ATOL, "relative")
    yield from _compare_features("real size", full[0], recorded["features_full"])
    head = beats.classify(full, counts)[0, : len(recorded["predictor_probs_first8"])]
    yield compare("real size: classes", head, recorded["predictor_probs_first8"], STAGE_ATOL)
    for key, features in recorded.items():
        if key.startswith("features_padded_"):
            yield from _check_real_padded(beats, waveform, key, recorded)
        elif key.startswith("features_") and key != "features_full":
            short = waveform[:, : int(_seconds(key) * RATE_HZ)]
            out, _ = beats(short, torch.tensor([short.shape[1]]))
            yield from _compare_features(f"real size, {key[9:]}", out[0], features)


def _check_real_padded(
    beats: BEATs, waveform: Tensor, key: str, recorded: dict[str, Any]
) -> Iterator[Check]:
    features, samples = recorded[key], round(_seconds(key) * RATE_HZ)
    stage = f"real size, {key[9:].replace('_', ' ')}"
    padded = waveform.clone()
    padded[:, samples:] = 0
    out, counts = beats(padded, torch.tensor([samples]))
    yield compare_exactly(f"{stage}: frames", int(counts), features["padding_mask_first_true"])
    yield from _compare_features(stage, out[0], features)
    head = beats.classify(out, counts)[0, : len(recorded["predictor_probs_padded_first8"])]
    yield compare(f"{stage}: classes", head, recorded["predictor_probs_padded_first8"], STAGE_ATOL)


def _compare_mel(mel: Tensor, recorded: dict[str, Any]) -> Iterator[Check]:
    summary = [mel.mean(), mel.std(), mel.min(), mel.max()]
    values = [recorded[k] for k in ("mean", "std", "min", "max")]
    yield compare("real size: fbank summary", torch.stack(summary), values, MEL_ATOL)
    for key, values in recorded.items():
        if key.startswith("row"):
            row = mel[int(key[3:])].unfold(
                0, len(values), 1
            )  # which bins of the row is not recorded
            found = min(row, key=lambda part: float((part - torch.tensor(values)).abs().max()))
            yield compare(f"real size: fbank {key}", found, values, MEL_ATOL)


def _compare_features(stage: str, out: Tensor, recorded: dict[str, Any]) -> Iterator[Check]:
    rows = [int(k) for k in recorded["frames"]]
    first = torch.stack([out[r, :8] for r in rows])
    last = torch.stack([out[int(r), -8:] for r in recorded["last8"]])
    yield compare(f"{stage}: shape", list(out.shape), recorded["shape"], 0.0)
    yield compare(f"{stage}: first values", first, list(recorded["frames"].values()), STAGE_ATOL)
    yield compare(f"{stage}: last values", last, list(recorded["last8"].values()), STAGE_ATOL)
    summary = [float(v) for v in (out.mean(), out.std(), out.abs().max())]
    values = [recorded[k] for k in ("mean", "std", "absmax")]
    yield compare(f"{stage}: summary", summary, values, STAGE_ATOL)
    ratio = float(out.norm()) / recorded["norm"]
    yield compare(f"{stage}: norm", ratio, 1.0, STAGE_ATOL, "relative")


def _compare_beats(
    encoder: BEATs, seen: dict[str, Tensor], recorded: dict[str, Tensor]
) -> Iterator[Check]:
    out, counts = seen["beats.out"], seen["beats.counts"]
    seen["beats.padding_mask"] = torch.arange(out.shape[1]) >= counts[:, None]
    seen["beats.predictor_probs"] = encoder.classify(out, counts)
    bias = encoder.encoder.relative_attention_bias
    if bias is not None:
        seen["beats.position_bias_b0"] = bias.table(out.shape[1])
    for name, value in recorded.items():
        if name.startswith("beats."):
            found = seen.get(name, torch.empty(0))
            yield compare(name, found, value, 0.0 if "mask" in name else STAGE_ATOL)


def _watch(ears: Ears) -> dict[str, Tensor]:
    """Record what passes through every module, under the recorded names."""
    seen: dict[str, Tensor] = {}

    def record(module: nn.Module, name: str) -> None:
        module.register_forward_hook(lambda _m, _i, out: seen.update({name: out}))

    for name, module in ears.encoder.named_modules():
        if name:
            record(module, f"beats.{name}")
    ears.encoder.register_forward_hook(
        lambda _m, _i, out: seen.update({"beats.out": out[0], "beats.counts": out[1]})
    )
    record(ears.frame_norm, "ln_audio")
    record(ears.qformer.norm, "qformer.embeddings")
    for i, layer in enumerate(ears.qformer.layers):
        record(layer, f"qformer.layer.{i}")
        for part in ("attention", "crossattention"):
            record(layer.get_submodule(part), f"qformer.layer.{i}.{part}")
    return seen


def _seconds(key: str) -> float:
    return float(key.rpartition("_")[2].removesuffix("s"))
