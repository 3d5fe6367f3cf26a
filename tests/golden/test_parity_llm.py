"""Prompts, splice, loss, logits, merging alpha, answers, stopping and gradients are the reference's."""

import json
from pathlib import Path

import pytest
import soundfile
import torch
from safetensors.torch import load_file

from NatureLM.config import Generation
from NatureLM.models import NatureLM, lora
from NatureLM.models.keymap import published_of
from NatureLM.models.loss import LossOutput, TrainingBatch
from NatureLM.models.model import AudioTokens
from NatureLM.prompts import as_given, ask

FOLDER = Path(__file__).parent / "model"
GOLDEN = json.loads((FOLDER / "expected" / "golden.json").read_text())
RECORDED = GOLDEN["modes"]["fp32"]
SAMPLES = GOLDEN["samples"]
TENSORS = load_file(FOLDER / "expected" / "model_fp32.safetensors")
STORED = load_file(FOLDER / "expected" / "processor_audio_f64.safetensors")
LOGITS_ATOL, LOSS_ATOL, STAGE_ATOL = 2e-3, 1e-3, 1e-4
PUBLISHED = Generation(max_new_tokens=12, stop_rule="published")
GREEDY = Generation(max_new_tokens=12)


@pytest.fixture(scope="module")
def model() -> NatureLM:
    return NatureLM.from_pretrained(FOLDER, parity="published", freeze_beats=False)


def waveform(name: str) -> torch.Tensor:
    if name in STORED:
        return STORED[name]
    return torch.from_numpy(soundfile.read(FOLDER / "audio" / name, dtype="float64")[0])


def stacked(files: list[str], lengths: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
    rows = [waveform(f)[:n] for f, n in zip(files, lengths, strict=True)]
    return torch.nn.utils.rnn.pad_sequence(rows, batch_first=True), torch.tensor(lengths)


def hear(model: NatureLM, files: list[str], lengths: list[int]) -> AudioTokens:
    with torch.no_grad():
        return model.encode(*stacked(files, lengths))


def batch(model: NatureLM) -> TrainingBatch:
    prompts = tuple(model.prompt(p) for p in SAMPLES["prompts"])
    return TrainingBatch(
        *stacked(SAMPLES["files"], SAMPLES["lengths"]), prompts, tuple(SAMPLES["texts"])
    )


def assert_loss(out: LossOutput, recorded: dict) -> None:
    assert float(out.loss) == pytest.approx(recorded["loss"], abs=LOSS_ATOL)
    assert (out.correct, out.total) == (recorded["correct"], recorded["total"])
    assert out.per_example_loss.tolist() == pytest.approx(
        recorded["per_example_loss"], abs=LOSS_ATOL
    )
    assert out.per_example_correct.tolist() == recorded["correct_per_sample"]
    assert out.per_example_total.tolist() == recorded["total_per_sample"]


def assert_logits(out: LossOutput, recorded: torch.Tensor) -> None:
    real = out.attention_mask.bool()
    assert torch.allclose(out.logits[real], recorded[real], atol=LOGITS_ATOL)


def test_splice_is_recorded(model: NatureLM) -> None:
    spliced = model.embeds(
        hear(model, ["a16k.wav"], [24_000]), [as_given(RECORDED["generate"]["prompts"][0])]
    )
    expected = TENSORS["generate.q0.inputs_embeds"]
    assert torch.allclose(spliced[0][None], expected, atol=STAGE_ATOL)


@torch.no_grad()
def test_forward_is_recorded(model: NatureLM) -> None:
    out = model(batch(model))
    assert torch.equal(out.labels, TENSORS["forward.labels"])
    assert torch.equal(out.attention_mask, TENSORS["forward.attention_mask"])
    assert torch.allclose(out.inputs_embeds, TENSORS["forward.inputs_embeds"], atol=STAGE_ATOL)
    assert_loss(out, RECORDED["forward"])
    assert_logits(out, TENSORS["forward.logits"])


@pytest.mark.parametrize("alpha", [0.5, 0.0])
@torch.no_grad()
def test_forward_at_another_alpha_is_recorded(model: NatureLM, alpha: float) -> None:
    with lora.scaled(model.llm, alpha):
        out = model(batch(model))
    assert_loss(out, RECORDED[f"forward_alpha{alpha}"])
    if alpha:
        assert_logits(out, TENSORS["forward_alpha0.5.logits"])
    assert_loss(model(batch(model)), RECORDED["forward"])


@torch.no_grad()
def test_forward_of_several_recordings_is_recorded(model: NatureLM) -> None:
    lengths = [n for row in SAMPLES["multi_lengths"] for n in row]
    prompts = tuple(model.prompt(p) for p in SAMPLES["multi_prompts"])
    assert [p.recordings for p in prompts] == [2, 1]
    files = ["a16k.wav", "b44k_stereo.wav", "trill.wav"]
    out = model(TrainingBatch(*stacked(files, lengths), prompts, tuple(SAMPLES["multi_texts"])))
    assert torch.equal(out.labels, TENSORS["forward_multi.labels"])
    assert_loss(out, RECORDED["forward_multi_audio"])
    assert_logits(out, TENSORS["forward_multi.logits"])


CASES = {
    "q0.greedy": (["a16k.wav"], [0], {}, 1.0),
    "q0.beam2": (["a16k.wav"], [0], {"num_beams": 2}, 1.0),
    "q1.greedy": (["a16k.wav"], [1], {}, 1.0),
    "q1.beam2": (["a16k.wav"], [1], {"num_beams": 2}, 1.0),
    "q2.greedy": (["a16k.wav"], [2], {}, 1.0),
    "q2.beam2": (["a16k.wav"], [2], {"num_beams": 2}, 1.0),
    "batch_equal_prompts.greedy": (["a16k.wav", "trill.wav"], [0, 0], {}, 1.0),
    "batch_equal_prompts.beam2": (["a16k.wav", "trill.wav"], [0, 0], {"num_beams": 2}, 1.0),
    "alpha0.5.q0.greedy": (["a16k.wav"], [0], {}, 0.5),
    "beam4_lp0.6_rp1.3.q1": (
        ["a16k.wav"],
        [1],
        {"num_beams": 4, "length_penalty": 0.6, "repetition_penalty": 1.3},
        1.0,
    ),
}
LENGTH = dict(zip(SAMPLES["files"], SAMPLES["lengths"], strict=True))


@pytest.mark.parametrize("name", CASES)
def test_answers_are_recorded(model: NatureLM, name: str) -> None:
    files, queries, settings, alpha = CASES[name]
    recorded = RECORDED["generate"][name]
    prompts = [as_given(RECORDED["generate"]["prompts"][q]) for q in queries]
    generation = Generation(max_new_tokens=12, stop_rule="published", **settings)
    tokens = hear(model, files, [LENGTH[f] for f in files])
    said = model.answer(tokens, prompts, generation, merging_alpha=alpha)
    assert [list(a.token_ids) for a in said] == recorded["core_ids"]
    assert [a.text for a in said] == recorded["text"]


def test_beam_answers_follow_the_recorded_scores(model: NatureLM) -> None:
    """A score is the answer's log-probability over its tokens, where the prompt's own count nothing."""
    recorded = RECORDED["generate"]["q0.beam2"]
    prompts = [as_given(RECORDED["generate"]["prompts"][0])]
    generation = Generation(max_new_tokens=12, num_beams=2, stop_rule="published")
    said = model.answer(hear(model, ["a16k.wav"], [24_000]), prompts, generation)[0]
    assert said.log_probability / 12 == pytest.approx(recorded["sequences_scores"][0], abs=1e-2)


@pytest.mark.parametrize(("kind", "beams"), [("greedy", 1), ("beam2", 2)])
def test_answers_about_several_recordings_are_recorded(
    model: NatureLM, kind: str, beams: int
) -> None:
    recorded = RECORDED["generate"][f"multi.{kind}"]
    lengths = SAMPLES["multi_lengths"][0]
    tokens = hear(model, ["a16k.wav", "b44k_stereo.wav"], lengths)
    prompt = ask(SAMPLES["multi_prompts"][0], model.template, 2)
    assert prompt.text == RECORDED["generate"]["multi_prompt"][0]
    generation = Generation(max_new_tokens=12, num_beams=beams, stop_rule="published")
    said = model.answer(tokens, [prompt], generation)[0]
    assert list(said.token_ids) == recorded["core_ids"][0]


def test_prompts_of_unequal_length_answer_as_they_do_alone(model: NatureLM) -> None:
    """The reference pads these on the right and says something else; recorded, and not repeated."""
    recorded = [RECORDED["generate"][f"unequal_reference_single{i}.greedy"] for i in (0, 1)]
    tokens = hear(model, ["a16k.wav", "trill.wav"], [24_000, 19_200])
    prompts = [as_given(RECORDED["generate"]["prompts"][i]) for i in (2, 1)]
    for generation in (PUBLISHED, GREEDY):
        said = model.answer(tokens, prompts, generation)
        assert [list(a.token_ids) for a in said] == [r["core_ids"][0] for r in recorded]


STOPPING = RECORDED["stopping"]
SINGLE = [(k, case) for k in ("hash_stop", "full", "eos_stop") for case in STOPPING[k]]


@pytest.mark.parametrize(("kind", "case"), SINGLE)
def test_single_answers_stop_as_recorded(model: NatureLM, kind: str, case: dict) -> None:
    tokens = hear(model, ["a16k.wav"], [24_000])
    said = model.answer(tokens, [case["query"]], PUBLISHED)[0]
    assert (list(said.token_ids), said.text) == (case["core_ids"][0], case["text"][0])
    own = model.answer(tokens, [case["query"]], GREEDY)[0]
    assert own.token_ids[: len(said.token_ids)] == said.token_ids
    assert own.token_ids == said.token_ids or kind == "hash_stop"
    if kind == "eos_stop":
        assert own.finish == "stop"


@pytest.mark.parametrize("name", ["batch_hash_row0", "batch_hash_row1"])
def test_a_batch_stops_as_recorded_or_row_by_row(model: NatureLM, name: str) -> None:
    case = STOPPING[name]
    tokens = hear(model, ["a16k.wav"] * 2, [24_000] * 2)
    said = model.answer(tokens, case["queries"], PUBLISHED)
    assert [list(a.token_ids) for a in said] == case["core_ids"]
    own = model.answer(tokens, case["queries"], GREEDY)
    for query, answer in zip(case["queries"], own, strict=True):
        assert answer.token_ids == model.answer(tokens[:1], [query], GREEDY)[0].token_ids
        assert len(answer.token_ids) == 12


def test_gradients_are_recorded() -> None:
    model = NatureLM.from_pretrained(FOLDER, parity="published", freeze_beats=False)
    model(batch(model)).loss.backward()
    norms = {
        published_of(k): float(p.grad.norm())
        for k, p in model.named_parameters()
        if p.grad is not None
    }
    expected = {k: v for k, v in RECORDED["grad_norms"].items() if k in norms}
    assert len(expected) == len(norms)
    assert norms == pytest.approx(expected, rel=1e-3, abs=1e-6)
    silent = [
        published_of(k) for k, p in model.named_parameters() if p.requires_grad and p.grad is None
    ]
    assert sorted(silent) == sorted(RECORDED["no_grad_params"])
