"""avex encoders keep the protocol; avex itself is stood in for."""

import sys
import types

import pytest
import torch

from NatureLM.errors import CheckpointError, DependencyError
from NatureLM.models.encoders import AudioEncoder, find_encoder
from NatureLM.models.encoders.avex import AvexEncoder, AvexShape


class StandIn(torch.nn.Module):
    """An avex-like model whose frames mix over the whole row, so that padding would show."""

    def forward(self, waveforms: torch.Tensor) -> torch.Tensor:
        frames = waveforms.unfold(1, 320, 320)[..., :4]
        return frames + waveforms.mean(1)[:, None, None]


@pytest.fixture
def encoder(monkeypatch: pytest.MonkeyPatch) -> AvexEncoder:
    asked: dict = {}

    def load_model(name: str, **options: object) -> StandIn:
        asked.update(options, name=name)
        return StandIn()

    monkeypatch.setitem(sys.modules, "avex", types.SimpleNamespace(load_model=load_model))
    encoder = find_encoder("avex").load("esp_aves2_x", shape=AvexShape(width=4))
    assert asked == {"name": "esp_aves2_x", "return_features_only": True, "device": "cpu"}
    return encoder


def test_it_keeps_the_protocol(encoder: AvexEncoder) -> None:
    assert isinstance(encoder, AudioEncoder)
    assert (encoder.width, encoder.sample_rate, encoder.frames_per_second) == (4, 16000, 50.0)


def test_neighbours_and_padding_change_nothing(encoder: AvexEncoder) -> None:
    rows = [torch.rand(n) for n in (3200, 16000, 3200)]
    batch = torch.nn.utils.rnn.pad_sequence(rows, batch_first=True)
    together, counts = encoder(batch, torch.tensor([len(r) for r in rows]))
    assert counts.tolist() == [10, 50, 10]
    for i, row in enumerate(rows):
        alone, _ = encoder(row[None], torch.tensor([len(row)]))
        torch.testing.assert_close(together[i, : counts[i]], alone[0])
        assert (together[i, counts[i] :] == 0).all()


def test_a_model_of_another_width_is_refused(encoder: AvexEncoder) -> None:
    encoder.width = 768
    with pytest.raises(CheckpointError, match=r"\(batch, time, 768\) was expected"):
        encoder(torch.rand(1, 3200), torch.tensor([3200]))


def test_without_avex_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "avex", None)
    with pytest.raises(DependencyError, match=r"naturelm-audio\[avex\]"):
        AvexEncoder.load()
