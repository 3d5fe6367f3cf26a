"""Laws of the BEATs encoder and its front end."""

import pytest
import torch

from NatureLM.errors import ConfigError, WindowError
from NatureLM.models.encoders import ENCODERS, AudioEncoder, find_encoder
from NatureLM.models.encoders.beats import BEATs, BEATsShape
from NatureLM.models.encoders.beats.frontend import LogMel

TINY = BEATsShape(
    embed_dim=8,
    encoder_layers=3,
    encoder_embed_dim=16,
    encoder_ffn_embed_dim=32,
    encoder_attention_heads=2,
    conv_pos=6,
    conv_pos_groups=2,
    num_buckets=16,
    max_distance=20,
    predictor_class=5,
)


def build(**changes: object) -> BEATs:
    torch.manual_seed(0)
    return BEATs(BEATsShape(**{**TINY.__dict__, **changes})).eval()


def noise(seconds: float, rate: int = 16000, seed: int = 1) -> torch.Tensor:
    return (
        torch.rand(int(seconds * rate), generator=torch.Generator().manual_seed(seed)) * 0.4 - 0.2
    )


def padded(rows: list[torch.Tensor], to: int | None = None) -> tuple[torch.Tensor, torch.Tensor]:
    lengths = torch.tensor([len(r) for r in rows])
    batch = torch.zeros(len(rows), to or int(lengths.max()))
    for target, row in zip(batch, rows, strict=True):
        target[: len(row)] = row
    return batch, lengths


@pytest.fixture
def beats() -> BEATs:
    return build()


def test_it_keeps_the_protocol(beats: BEATs) -> None:
    assert isinstance(beats, AudioEncoder)
    assert find_encoder("beats") is BEATs
    assert beats.frames_per_second == 50.0
    with pytest.raises(ConfigError, match="beats, birdnet, avex"):
        find_encoder("ears")
    assert set(ENCODERS) == {"beats", "birdnet", "avex"}


@pytest.mark.parametrize(("seconds", "frames"), [(10, 496), (3, 144), (1, 48), (0.5, 24)])
def test_frames_of_known_lengths(beats: BEATs, seconds: float, frames: int) -> None:
    out, counts = beats(*padded([noise(seconds)]))
    assert out.shape == (1, frames, 16)
    assert counts.tolist() == [frames]


@pytest.mark.parametrize("rule", ["exact", "published"])
def test_padding_and_neighbours_change_nothing(beats: BEATs, rule: str) -> None:
    beats.padding_rule = rule
    short, long = noise(0.9, seed=2), noise(2.0, seed=3)
    together, counts = beats(*padded([short, long], to=40000))
    for i, row in enumerate((short, long)):
        alone, alone_counts = beats(*padded([row], to=40000))
        assert alone_counts[0] == counts[i]
        n = int(counts[i])
        torch.testing.assert_close(alone[0, :n], together[i, :n], atol=2e-5, rtol=0)


def test_exact_lengths_make_a_padded_row_equal_the_unpadded_one(beats: BEATs) -> None:
    row = noise(0.9)
    alone, n = beats(*padded([row]))
    behind_silence, m = beats(*padded([row], to=64000))
    assert n.tolist() == m.tolist() == [alone.shape[1]]
    torch.testing.assert_close(alone[0], behind_silence[0, : int(n)], atol=2e-5, rtol=0)


def test_full_lengths_attend_the_silence_as_the_reference_does(beats: BEATs) -> None:
    batch, lengths = padded([noise(0.9)], to=64000)
    masked, n = beats(batch, lengths)
    attended, full = beats(batch, torch.tensor([64000]))
    assert int(full) == attended.shape[1] > int(n)
    assert not torch.allclose(masked[0, :8], attended[0, :8], atol=1e-3)


def test_published_rule_of_a_ten_second_window(beats: BEATs) -> None:
    beats.padding_rule = "published"
    assert beats.frames_in(torch.tensor([116800, 160000, 0]), 160000).tolist() == [365, 496, 0]


def test_a_row_without_any_sound_is_finite(beats: BEATs) -> None:
    out, counts = beats(torch.zeros(2, 16000), torch.tensor([0, 16000]))
    assert counts.tolist() == [0, 48]
    assert out.isfinite().all()
    assert beats.classify(out, counts)[1].isfinite().all()


def test_too_short_to_make_a_frame(beats: BEATs) -> None:
    assert beats(torch.zeros(1, 2800), torch.tensor([2800]))[1].tolist() == [8]
    with pytest.raises(WindowError, match="2800 samples"):
        beats(torch.zeros(1, 2799), torch.tensor([2799]))


def test_the_gradient_shrinks_before_every_layer() -> None:
    waveform, lengths = padded([noise(0.5)])
    norms = {}
    for ratio in (1.0, 0.5):
        beats = build(layer_wise_gradient_decay_ratio=ratio)
        beats(waveform, lengths)[0].square().sum().backward()
        names = ["post_extract_proj.weight", *(f"encoder.layers.{i}.fc1.weight" for i in range(3))]
        norms[ratio] = [beats.get_parameter(n).grad.norm().item() for n in names]
    factors = [b / a for a, b in zip(norms[1.0], norms[0.5], strict=True)]
    assert factors == pytest.approx([1 / 8, 1 / 4, 1 / 2, 1], rel=1e-4)


def test_layerdrop_in_training_only_and_never_when_frozen() -> None:
    waveform, lengths = padded([noise(0.5)])
    beats = build(encoder_layerdrop=1.0).train()
    ran: list[int] = []
    for i, layer in enumerate(beats.encoder.layers):
        layer.register_forward_hook(lambda _m, _i, _o, i=i: ran.append(i))
    beats(waveform, lengths)
    assert ran == []
    beats.requires_grad_(False).train()
    assert not beats.training
    beats(waveform, lengths)
    assert ran == [0, 1, 2]


def test_fresh_weights_have_the_spread_of_the_reference() -> None:
    sizes = {"encoder_layers": 1, "encoder_embed_dim": 256, "encoder_ffn_embed_dim": 512}
    beats = BEATs(BEATsShape(encoder_attention_heads=8, **sizes))
    layer = beats.encoder.layers[0]
    gain = (8 * 1) ** -0.25
    assert layer.self_attn.q_proj.weight.std().item() == pytest.approx((2 / 512) ** 0.5, rel=0.05)
    assert layer.fc1.weight.std().item() == pytest.approx(gain * (2 / 768) ** 0.5, rel=0.05)
    assert beats.predictor.weight.std().item() == pytest.approx(0.02, rel=0.05)
    kernel = beats.encoder.pos_conv
    assert kernel.weight_v.std().item() == pytest.approx((4 / (128 * 256)) ** 0.5, rel=0.05)
    assert (layer.self_attn.grep_a == 1).all()


@pytest.mark.parametrize(
    "changes",
    [
        {"layer_norm_first": True, "deep_norm": False},
        {"relative_position_embedding": False},
        {"gru_rel_pos": False},
        {"embed_dim": 16},
        {"conv_bias": True, "conv_pos": 5},
        {"finetuned_model": False, "activation_fn": "relu"},
    ],
)
def test_every_switch_builds_and_masks(changes: dict) -> None:
    beats = build(**changes)
    short, long = noise(0.9, seed=2), noise(2.0, seed=3)
    together, counts = beats(*padded([short, long]))
    alone, _ = beats(*padded([short]))
    torch.testing.assert_close(alone[0], together[0, : int(counts[0])], atol=2e-5, rtol=0)
    if not beats.shape.finetuned_model:
        with pytest.raises(WindowError, match="no classes"):
            beats.classify(together, counts)


def test_a_rate_of_32_khz_gives_the_same_frames_a_second() -> None:
    beats = build(sample_rate=32000)
    out, _ = beats(*padded([noise(1.0, rate=32000)]))
    assert out.shape[1] == 48
    time = torch.arange(32000, dtype=torch.float64) / 32000
    tone = torch.sin(2 * torch.pi * 1000 * time)[None]
    fast, slow = LogMel(32000)(tone), LogMel(16000)(tone[:, ::2])
    assert fast.shape == slow.shape
    assert (
        fast.mean(1).argmax() < slow.mean(1).argmax()
    )  # the same tone lies lower in a wider range


def test_nonsense_is_refused() -> None:
    with pytest.raises(ConfigError, match="activation_fn"):
        BEATsShape(activation_fn="swiglu")
    with pytest.raises(ConfigError, match="encoder_attention_heads = 5"):
        BEATsShape(encoder_attention_heads=5)


def test_a_shape_is_read_from_published_names() -> None:
    shape = BEATsShape.of({"encoder_layers": 2, "pretraining_knob": 1})
    assert shape.encoder_layers == 2
    assert shape.residual_scale == pytest.approx(4**0.25)
