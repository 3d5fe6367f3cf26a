"""Laws of the window-level Q-Former."""

import pytest
import torch

from NatureLM.models.qformer import QFormer, QFormerShape


@pytest.fixture
def shape() -> QFormerShape:
    return QFormerShape(width=16, heads=2, layers=2, feed_forward=32, frame_width=8, queries=2)


def test_ten_seconds_of_beats_frames_are_29_spans(shape: QFormerShape) -> None:
    former = QFormer(shape).eval()
    assert former.spans_in(496) == 29
    assert former(torch.randn(1, 496, 8)).shape == (1, 58, 16)


def test_a_span_reads_its_own_frames_only(shape: QFormerShape) -> None:
    former = QFormer(shape).eval()
    frames = torch.randn(1, 51, 8)
    changed = frames.clone()
    changed[:, 17:34] += 1
    before, after = former(frames), former(changed)
    assert torch.equal(before[:, :2], after[:, :2])
    assert torch.equal(before[:, 4:], after[:, 4:])
    assert not torch.allclose(before[:, 2:4], after[:, 2:4])


def test_masked_frames_are_not_read(shape: QFormerShape) -> None:
    whole = QFormerShape(**{**shape.__dict__, "span_frames": None})
    former = QFormer(whole).eval()
    frames, mask = torch.randn(2, 5, 8), torch.ones(2, 5, dtype=torch.bool)
    mask[:, 3:] = False
    noisy = frames.clone()
    noisy[:, 3:] = 99.0
    assert torch.allclose(former(frames, mask), former(noisy, mask), atol=1e-6)
