"""The encoder and the Q-Former give the reference's numbers, stage by stage."""

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from safetensors.torch import load_file

from NatureLM.models.encoders.beats import BEATs, BEATsShape
from NatureLM.models.encoders.beats.attention import relative_buckets
from NatureLM.models.encoders.beats.frontend import LogMel
from NatureLM.models.keymap import ours_of
from NatureLM.models.qformer import QFormer, QFormerShape
from NatureLM.models.verify.beats import fill_by_formula, formula_waveform, published_parameters

FOLDER = Path(__file__).parent / "model"
ATOL = 1e-4


@pytest.fixture(scope="module")
def config() -> dict:
    return json.loads((FOLDER / "config.json").read_text())


@pytest.fixture(scope="module")
def weights() -> dict[str, torch.Tensor]:
    stored = load_file(FOLDER / "model.safetensors")
    return {ours: v for k, v in stored.items() if (ours := ours_of(k)) is not None}


def part(weights: dict, name: str) -> dict:
    return {k.removeprefix(f"{name}."): v for k, v in weights.items() if k.startswith(f"{name}.")}


@pytest.fixture(scope="module")
def beats(config: dict, weights: dict) -> BEATs:
    encoder = BEATs(BEATsShape.of(config["beats_cfg"]))
    encoder.load_state_dict(part(weights, "encoder"), strict=True)
    return encoder.eval().requires_grad_(False)


@pytest.fixture(scope="module")
def qformer(weights: dict) -> QFormer:
    sizes = json.loads((FOLDER / "expected/golden.json").read_text())["info"]["qformer_bert_config"]
    former = QFormer(
        QFormerShape(
            width=sizes["hidden_size"],
            heads=sizes["num_attention_heads"],
            layers=sizes["num_hidden_layers"],
            feed_forward=sizes["intermediate_size"],
            frame_width=sizes["encoder_width"],
        )
    )
    former.load_state_dict(part(weights, "qformer"), strict=True)
    return former.eval().requires_grad_(False)


@pytest.fixture(scope="module")
def single() -> dict[str, torch.Tensor]:
    return load_file(FOLDER / "expected/encode_single.safetensors")


@pytest.fixture(scope="module")
def waveform() -> torch.Tensor:
    return torch.from_numpy(soundfile.read(FOLDER / "audio/a16k.wav")[0])[None]


def watch(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    seen: dict[str, torch.Tensor] = {}
    for name, child in module.named_modules():
        child.register_forward_hook(lambda _m, _i, out, name=name: seen.update({name: out}))
    return seen


def test_log_mel_in_both_precisions(waveform: torch.Tensor, single: dict) -> None:
    mel = LogMel()
    torch.testing.assert_close(mel(waveform), single["fbank"], atol=5e-5, rtol=0)
    torch.testing.assert_close(mel(waveform.float()), single["fbank"], atol=5e-5, rtol=0)


def test_autocast_does_not_reach_the_log_mel(waveform: torch.Tensor, single: dict) -> None:
    with torch.autocast("cpu", torch.bfloat16):
        mel = LogMel()(waveform.float())
    assert mel.dtype == torch.float32
    torch.testing.assert_close(mel, single["fbank"], atol=5e-5, rtol=0)


def test_silence_and_the_empty_filter_and_frame_counts() -> None:
    facts = json.loads((FOLDER / "expected/misc.json").read_text())["fbank_facts"]
    mel = LogMel()
    silent = mel(torch.zeros(1, 800))
    assert torch.allclose(silent, torch.tensor(facts["silence_value_normalised"]), atol=1e-6)
    noise = mel(torch.rand(1, 16000, dtype=torch.float64) - 0.5)
    constant = (noise == noise[:, :1]).all(1)[0].nonzero().flatten().tolist()
    assert constant == facts["empty_mel_bins"]
    for samples, frames in facts["frames"].items():
        assert mel.frames_in(int(samples)) == frames == mel(torch.zeros(1, int(samples))).shape[1]


@pytest.mark.parametrize(("buckets", "furthest"), [(320, 800), (32, 80)])
def test_relative_buckets(buckets: int, furthest: int) -> None:
    misc = json.loads((FOLDER / "expected/misc.json").read_text())
    table = misc[f"rel_bucket_{buckets}_{furthest}"]
    found = relative_buckets(torch.tensor(table["rel"]), buckets, furthest)
    assert found.tolist() == table["bucket"]
    near = table.get("all_within_100", {})
    offsets = torch.tensor([int(k) for k in near], dtype=torch.long)
    found = relative_buckets(offsets, buckets, furthest)
    assert found.tolist() == list(near.values())
    everything = relative_buckets(torch.arange(-1000, 1001), buckets, furthest)
    assert int(everything.sum()) == table["sum"]


def test_every_stage_of_one_window(beats: BEATs, waveform: torch.Tensor, single: dict) -> None:
    seen = watch(beats)
    out, counts = beats(waveform, torch.tensor([waveform.shape[1]]))
    compared = 0
    for name, value in seen.items():
        golden = single.get(f"beats.{name}")
        if golden is not None:
            torch.testing.assert_close(value, golden, atol=ATOL, rtol=0, msg=name)
            compared += 1
    assert compared == 5 + beats.shape.encoder_layers
    torch.testing.assert_close(out, single["beats.out"], atol=ATOL, rtol=0)
    bias = beats.encoder.relative_attention_bias.table(out.shape[1])
    torch.testing.assert_close(bias, single["beats.position_bias_b0"], atol=ATOL, rtol=0)
    probabilities = beats.classify(out, counts)
    torch.testing.assert_close(probabilities, single["beats.predictor_probs"], atol=ATOL, rtol=0)


def test_a_padded_batch_by_the_published_rule(beats: BEATs, waveform: torch.Tensor) -> None:
    golden = load_file(FOLDER / "expected/encode_padded_batch.safetensors")
    samples = json.loads((FOLDER / "expected/golden.json").read_text())["samples"]
    decoded = load_file(FOLDER / "expected/processor_audio_f64.safetensors")
    decoded["a16k.wav"] = waveform[0]
    batch = torch.zeros(len(samples["lengths"]), max(samples["lengths"]), dtype=torch.float64)
    for row, name, length in zip(batch, samples["files"], samples["lengths"], strict=True):
        row[:length] = decoded[name][:length]
    beats.padding_rule = "published"
    try:
        out, counts = beats(batch, torch.tensor(samples["lengths"]))
    finally:
        beats.padding_rule = "exact"
    padded = torch.arange(out.shape[1]) >= counts[:, None]
    assert torch.equal(padded, golden["beats.padding_mask"])
    torch.testing.assert_close(out, golden["beats.out"], atol=ATOL, rtol=0)
    probabilities = beats.classify(out, counts)
    torch.testing.assert_close(probabilities, golden["beats.predictor_probs"], atol=ATOL, rtol=0)


def test_every_stage_of_the_qformer(qformer: QFormer, weights: dict, single: dict) -> None:
    seen = watch(qformer)
    out = qformer(single["ln_audio"])
    torch.testing.assert_close(seen["norm"][:1], single["qformer.embeddings"], atol=ATOL, rtol=0)
    for i in range(qformer.shape.layers):
        for ours, theirs in (("", ""), (".attention", ".attention"), (".crossattention",) * 2):
            golden = single[f"qformer.layer.{i}{theirs}"]
            torch.testing.assert_close(seen[f"layers.{i}{ours}"], golden, atol=ATOL, rtol=0)
    projected = torch.nn.functional.linear(
        out, weights["projector.weight"], weights["projector.bias"]
    )
    torch.testing.assert_close(projected, single["audio_embeds"], atol=ATOL, rtol=0)


@pytest.mark.slow
def test_beats_of_the_real_size_by_formula() -> None:
    golden = json.loads((FOLDER / "expected/beats_real_size.json").read_text())
    beats = fill_by_formula(BEATs(BEATsShape()), golden["variant"]["S"])
    waveform = formula_waveform(golden["variant"])
    assert set(golden["state_dict_names"]) == {n for n, _ in published_parameters(beats)}
    out, counts = beats(waveform, torch.tensor([waveform.shape[1]]))
    compare_features(out[0], golden["features_full"])
    found = beats.classify(out, counts)[0, :8]
    assert np.allclose(found, golden["predictor_probs_first8"], atol=ATOL)


def compare_features(found: torch.Tensor, golden: dict) -> None:
    assert list(found.shape) == golden["shape"]
    for frame, values in golden["frames"].items():
        assert np.allclose(found[int(frame), :8], values, atol=ATOL)
        assert np.allclose(found[int(frame), -8:], golden["last8"][frame], atol=ATOL)
    assert found.norm().item() == pytest.approx(golden["norm"], rel=1e-5)
