"""The pocket encoder's copies, casts and damaged files: each hears what it should, or is refused."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch

from NatureLM.errors import CheckpointError
from NatureLM.models import parts
from NatureLM.models.encoders.birdnet import SEGMENT_SAMPLES, BirdNET, EvidenceEncoder
from NatureLM.models.encoders.tflite_graph import Graph


@pytest.fixture(scope="module")
def model_file() -> Path:
    path = parts.cached("birdnet")
    assert path, "run `naturelm models pull pocket` first"
    return path


@pytest.fixture(scope="module")
def birdnet(model_file: Path) -> BirdNET:
    return BirdNET(model_file).eval()


def noises(count: int) -> torch.Tensor:
    draw = torch.Generator().manual_seed(1)
    loudness = torch.logspace(-3, -0.5, count)[:, None]
    return loudness * torch.randn(count, SEGMENT_SAMPLES, generator=draw)


@pytest.mark.pocket
def test_scores_do_not_depend_on_batch_size_or_order(birdnet: BirdNET) -> None:
    segments = noises(6)
    with torch.inference_mode():
        together = birdnet(segments)[0]
        alone = torch.cat([birdnet(segment[None])[0] for segment in segments])
        backwards = birdnet(segments.flip(0))[0].flip(0)
    for other in (alone, backwards):
        torch.testing.assert_close(together, other, atol=1e-3, rtol=0)
        assert (together.argmax(1) == other.argmax(1)).all()


@pytest.mark.pocket
def test_loudness_and_offset_do_not_change_scores(birdnet: BirdNET) -> None:
    segments = noises(2)
    with torch.inference_mode():
        plain, other = birdnet(segments[1:])[0], birdnet(0.5 * segments[1:] + 0.1)[0]
    torch.testing.assert_close(plain, other, atol=0.05, rtol=0)


@pytest.mark.pocket
def test_a_cast_copy_hears_about_the_same_and_leaves_the_original_exact(birdnet: BirdNET) -> None:
    segments = noises(2)
    with torch.inference_mode():
        before = birdnet(segments)[0]
    low = copy.deepcopy(birdnet).to(torch.bfloat16)
    with torch.inference_mode():
        rough, after = low(segments)[0], birdnet(segments)[0]
    assert rough.dtype == torch.bfloat16
    assert torch.equal(before, after)
    assert 0 < (rough.float() - before).abs().mean() < 0.3
    assert {s.matrix.dtype for s in low.spectrograms} == {torch.float64}


@pytest.mark.pocket
def test_nothing_of_the_encoder_trains_or_is_saved(birdnet: BirdNET) -> None:
    encoder = EvidenceEncoder(birdnet)
    assert not list(encoder.parameters())
    assert not encoder.state_dict()


@pytest.mark.parametrize("content", [b"", b"TFL", b"\x80\x04pickled", b"\x00" * 64])
def test_another_file_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "model.tflite"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match="is no tflite file"):
        Graph(path)


@pytest.mark.pocket
@pytest.mark.parametrize("kept_bytes", [100, 100_000, 30_000_000])
def test_a_truncated_file_is_refused(tmp_path: Path, model_file: Path, kept_bytes: int) -> None:
    path = tmp_path / "model.tflite"
    path.write_bytes(model_file.read_bytes()[:kept_bytes])
    with pytest.raises(CheckpointError, match=r"model\.tflite: is damaged"):
        BirdNET(path)
