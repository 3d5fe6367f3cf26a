"""The pocket model's encoder: exact with its interpreter on synthetic sound; evidence minds neither batch nor padding."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from NatureLM.models import parts
from NatureLM.models.encoders.birdnet import (
    EVIDENCE,
    SAMPLE_RATE,
    SEGMENT_SAMPLES,
    SILENT_LOGIT,
    BirdNET,
    EvidenceEncoder,
    segment_starts,
)


class Ear(BirdNET):
    """Scores a segment by a fixed projection of its samples; stands where BirdNET stands."""

    def __init__(self, classes: int = 9, width: int = 6) -> None:
        nn.Module.__init__(self)
        draw = torch.Generator().manual_seed(3)
        self.register_buffer("prototypes", torch.randn(classes, width, generator=draw))
        self.register_buffer("mix", torch.randn(8, classes, generator=draw))
        self.heard: list[torch.Tensor] = []

    def forward(self, segments: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        self.heard.append(segments)
        folded = segments.unflatten(1, (-1, 8)).mean(1)
        return folded @ self.mix * 100, folded, folded


def encoder() -> EvidenceEncoder:
    return EvidenceEncoder(Ear())


def noise(samples: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(samples, generator=torch.Generator().manual_seed(seed)) * 2 - 1


@given(st.integers(1, 12 * SEGMENT_SAMPLES))
def test_segments_cover_a_window_and_stay_in_it(samples: int) -> None:
    starts = segment_starts(samples)
    assert starts[0] == 0
    assert starts == sorted(set(starts))
    if samples < SEGMENT_SAMPLES:
        assert starts == [0]
        return
    assert starts[-1] + SEGMENT_SAMPLES == samples
    assert all(b - a <= SEGMENT_SAMPLES for a, b in pairwise(starts))
    assert all(start % SEGMENT_SAMPLES == 0 for start in starts[:-1])
    assert len(starts) == -(-samples // SEGMENT_SAMPLES)


@pytest.mark.parametrize("seconds", [0.25, 3, 3.5, 10])
def test_a_frame_says_class_score_time_and_rank(seconds: float) -> None:
    ear, samples = encoder(), int(seconds * SAMPLE_RATE)
    frames, counts = ear(noise(samples)[None], torch.tensor([samples]))
    scores, starts = ear.evidence(noise(samples)[None], torch.tensor([samples]))
    segments = len(segment_starts(samples))
    assert frames.shape == (1, EVIDENCE * segments, ear.width)
    assert counts.tolist() == [EVIDENCE * segments]
    directions, numbers = frames[0, :, :-4], frames[0, :, -4:]
    assert torch.allclose(directions.norm(dim=1), torch.ones(len(directions)))
    top = scores[0].topk(EVIDENCE, dim=1)
    assert torch.equal(numbers[:, 0], top.values.flatten())
    assert torch.equal(numbers[:, 1], top.values.sigmoid().flatten())
    assert torch.equal(numbers[:, 2], starts[0].repeat_interleave(EVIDENCE))
    assert numbers[:, 3].tolist() == list(range(EVIDENCE)) * segments
    prototypes = ear.birdnet.get_buffer("prototypes")
    cosine = directions @ nn.functional.normalize(prototypes, dim=1).T
    assert torch.equal(cosine.argmax(1), top.indices.flatten())


def test_evidence_minds_neither_neighbours_nor_padding() -> None:
    ear = encoder()
    lengths = [SAMPLE_RATE, 10 * SAMPLE_RATE, 3 * SAMPLE_RATE, 7 * SAMPLE_RATE + 11] * 3
    windows = [noise(n, seed) for seed, n in enumerate(lengths)]
    padded = torch.full((len(windows), max(lengths) + 100), 0.7)
    for row, window in zip(padded, windows, strict=True):
        row[: len(window)] = window
    together, counts = ear(padded, torch.tensor(lengths))
    for i, window in enumerate(windows):
        alone, (count,) = ear(window[None], torch.tensor([len(window)]))
        assert count == counts[i]
        assert torch.allclose(together[i, :count], alone[0], atol=1e-4)
        assert not together[i, count:].any()


def test_a_short_window_is_completed_with_silence() -> None:
    ear = encoder()
    ear(torch.ones(1, 5000), torch.tensor([2000]))
    (heard,) = ear.birdnet.heard
    assert heard.shape == (1, SEGMENT_SAMPLES)
    assert heard[0, :2000].eq(1).all()
    assert not heard[0, 2000:].any()


@pytest.fixture(scope="module")
def model_file() -> Path:
    path = parts.cached("birdnet")
    assert path, "run `naturelm models pull pocket` first"
    return path


@pytest.fixture(scope="module")
def birdnet(model_file: Path) -> BirdNET:
    return BirdNET(model_file).eval()


def sounds() -> np.ndarray:
    """Six synthetic segments: noises, a chirp, pulses, a harmonic call, a faint tone."""
    rng, t = np.random.default_rng(5), np.arange(SEGMENT_SAMPLES) / SAMPLE_RATE
    white = rng.standard_normal(SEGMENT_SAMPLES)
    brown = np.cumsum(white)
    call = sum(np.sin(2 * np.pi * 900 * k * t) / k for k in range(1, 6)) * (np.sin(9 * t) > 0)
    rows = [
        white,
        brown - brown.mean(),
        np.sin(2 * np.pi * (2000 * t + 900 * t**2)),
        white * (np.sin(2 * np.pi * 6 * t) > 0.9),
        call + 0.01 * white,
        1e-3 * np.sin(2 * np.pi * 4000 * t) + 1e-4 * white,
    ]
    scale = [0.3, 0.5, 0.8, 0.6, 0.4, 1.0]
    return np.stack([s * r / max(1.0, np.abs(r).max()) for s, r in zip(scale, rows, strict=True)]).astype(np.float32)  # fmt: skip


@pytest.mark.pocket
def test_torch_scores_as_the_interpreter_does(birdnet: BirdNET, model_file: Path) -> None:
    litert = pytest.importorskip("ai_edge_litert.interpreter")
    interpreter = litert.Interpreter(str(model_file), num_threads=1)
    interpreter.allocate_tensors()
    place_in = interpreter.get_input_details()[0]["index"]
    place_out = interpreter.get_output_details()[0]["index"]
    segments = sounds()
    with torch.no_grad():
        ours = birdnet(torch.from_numpy(segments))[0].numpy()
    for segment, logits in zip(segments, ours, strict=True):
        interpreter.set_tensor(place_in, segment[None])
        interpreter.invoke()
        theirs = interpreter.get_tensor(place_out)[0]
        assert logits.argmax() == theirs.argmax()
        assert np.abs(logits - theirs).max() < 0.05
        assert np.abs(logits - theirs).mean() < 5e-3


@pytest.mark.pocket
def test_the_embedding_is_the_mean_of_frames_and_the_logits_follow(birdnet: BirdNET) -> None:
    with torch.no_grad():
        logits, embedding, frames = birdnet(torch.from_numpy(sounds()[:2]))
    assert logits.shape == (2, 6522)
    assert frames.shape == (2, 6, 1024)
    assert frames.min() >= 0
    assert torch.allclose(frames.mean(1), embedding, atol=1e-6)
    dense = embedding @ birdnet.get_buffer("prototypes").T + birdnet.get_buffer("bias")
    assert torch.allclose(dense, logits, atol=1e-4)


@pytest.mark.pocket
def test_digital_silence_scores_nothing(birdnet: BirdNET) -> None:
    segments = torch.stack([torch.zeros(SEGMENT_SAMPLES), torch.from_numpy(sounds()[2])])
    with torch.no_grad():
        logits = birdnet(segments)[0]
        alone = birdnet(segments[1:])[0]
    assert logits[0].eq(SILENT_LOGIT).all()
    assert torch.allclose(logits[1:], alone, atol=1e-3)


@pytest.mark.pocket
def test_the_real_encoder_minds_neither_neighbours_nor_padding(birdnet: BirdNET) -> None:
    ear, sound = EvidenceEncoder(birdnet), torch.from_numpy(sounds()).flatten()
    assert ear.width == 1028
    lengths = [4 * SAMPLE_RATE, 2 * SAMPLE_RATE]
    padded = torch.zeros(2, lengths[0])
    padded[0], padded[1, : lengths[1]] = sound[: lengths[0]], sound[-lengths[1] :]
    with torch.no_grad():
        together, _ = ear.evidence(padded, torch.tensor(lengths))
        alone, starts = ear.evidence(padded[1:, : lengths[1]], torch.tensor(lengths[1:]))
    assert torch.allclose(together[1], alone[0], atol=1e-3)
    assert starts[0].tolist() == [0.0]
