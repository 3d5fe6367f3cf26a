"""The composition: encode once, ask many; several recordings; what trains; what is refused."""

import copy
from pathlib import Path

import pytest
import torch
from torch import nn

from NatureLM.config import Generation, read_hub_config
from NatureLM.errors import ConfigError, PromptError
from NatureLM.models import build, lora
from NatureLM.models.grammar import Speller
from NatureLM.models.model import AudioTokens, NatureLM, Parts
from NatureLM.models.qformer import QFormer, QFormerShape
from NatureLM.prompts import TEMPLATES, Message, converse
from tests import tiny

GOLDEN = Path(__file__).parents[1] / "golden" / "model"
SHORT = Generation(max_new_tokens=6)
RATE = 16_000


@pytest.fixture(scope="module")
def model() -> NatureLM:
    return tiny.model()


@pytest.fixture(scope="module")
def tokens(model: NatureLM) -> AudioTokens:
    waves = torch.randn(3, 2 * RATE, generator=torch.Generator().manual_seed(1)) * 0.1
    with torch.no_grad():
        return model.encode(waves, torch.tensor([2 * RATE, RATE, 300]))


def test_the_miniature_is_the_same_every_time(model: NatureLM) -> None:
    again = tiny.model().state_dict()
    assert all(torch.equal(v, again[k]) for k, v in model.state_dict().items())


def test_counts_say_how_much_was_heard(model: NatureLM, tokens: AudioTokens) -> None:
    assert tokens.counts.tolist() == [5, 2, 1]
    assert tokens.tokens.shape == (3, 5, 32)
    assert [len(row) for row in tokens.rows()] == [5, 2, 1]
    assert len(tokens[1:]) == len(tokens[torch.tensor([2, 0])]) == 2


def test_one_encoding_serves_many_queries(model: NatureLM, tokens: AudioTokens) -> None:
    queries = ["which?", "is it a frog or something else?", "how many?"]
    together = model.answer(tokens[torch.zeros(3, dtype=torch.long)], queries, SHORT)
    assert together[0].token_ids == model.answer(tokens[:1], queries[:1], SHORT)[0].token_ids
    assert [a.token_ids for a in together[1:]] == [
        model.answer(tokens[:1], [q], SHORT)[0].token_ids for q in queries[1:]
    ]


def test_the_audio_is_used(model: NatureLM, tokens: AudioTokens) -> None:
    answers = model.answer(tokens, ["which?"] * 3, SHORT)
    assert len({a.log_probability for a in answers}) == 3


def test_several_recordings_in_one_query(model: NatureLM, tokens: AudioTokens) -> None:
    query = "<Audio><AudioHere></Audio> and <Audio><AudioHere></Audio> alike?"
    both = model.answer(tokens[:2], [query], SHORT)[0]
    mixed = model.answer(tokens, [query, "which?"], SHORT)
    assert mixed[0].token_ids == both.token_ids
    assert mixed[1].token_ids == model.answer(tokens[2:], ["which?"], SHORT)[0].token_ids
    swapped = model.answer(tokens[torch.tensor([1, 0])], [query], SHORT)[0]
    assert swapped.log_probability != both.log_probability
    lengths = [len(model.embeds(tokens[:2], [query])[0]), len(model.embeds(tokens[1:], [query])[0])]
    assert lengths[0] - lengths[1] == 5 - 1


def test_a_conversation(model: NatureLM, tokens: AudioTokens) -> None:
    turns = [Message("user", "which?"), Message("assistant", "A frog."), Message("user", "sure?")]
    prompt = converse(turns, model.template)
    assert (
        model.answer(tokens[:1], [prompt], SHORT)[0]
        != model.answer(tokens[:1], ["sure?"], SHORT)[0]
    )


@pytest.mark.parametrize(
    ("queries", "windows"),
    [(["a"], 2), (["a", "b"], 1), (["<Audio><AudioHere></Audio>" * 2 + " b"], 1)],
)
def test_a_mismatch_is_refused(
    model: NatureLM, tokens: AudioTokens, queries: list[str], windows: int
) -> None:
    with pytest.raises(PromptError, match="have room for"):
        model.answer(tokens[:windows], queries, SHORT)


@pytest.mark.parametrize("query", ["", "  \n", "x" * 1_000_000])
def test_a_query_that_cannot_be_put_is_refused(
    model: NatureLM, tokens: AudioTokens, query: str
) -> None:
    with pytest.raises(PromptError):
        model.answer(tokens[:1], [query], SHORT)


def test_a_prompt_longer_than_the_llm_reads_is_refused(
    model: NatureLM, tokens: AudioTokens
) -> None:
    with pytest.raises(PromptError, match="the LLM reads 4,096 at most"):
        model.answer(tokens[:1], ["x" * 5_000], SHORT)


def test_no_query_no_answer(model: NatureLM, tokens: AudioTokens) -> None:
    assert model.answer(tokens[:0], [], SHORT) == []


def test_alpha_is_an_argument_and_leaves_nothing(model: NatureLM, tokens: AudioTokens) -> None:
    beams = Generation(max_new_tokens=6, num_beams=2)
    for generation in (SHORT, beams):
        plain = model.answer(tokens, ["which?"] * 3, generation)
        by_alpha = {
            a: model.answer(tokens, ["which?"] * 3, generation, merging_alpha=a)
            for a in (0.0, 0.5, 1.0)
        }
        assert by_alpha[1.0] == plain
        assert by_alpha[0.0] != plain
        assert by_alpha[0.5] != by_alpha[0.0]
        assert model.answer(tokens, ["which?"] * 3, generation) == plain
    with pytest.raises(ConfigError, match="merging alpha"):
        model.answer(tokens, ["which?"] * 3, SHORT, merging_alpha=2.0)


def test_folded_weights_follow_the_adapter(tokens: AudioTokens) -> None:
    model = tiny.model()
    before = model.answer(tokens[:1], ["which?"], SHORT)
    with torch.no_grad():
        for name, parameter in model.llm.named_parameters():
            if "lora_B" in name:
                parameter.mul_(-1)
    assert model.answer(tokens[:1], ["which?"], SHORT) != before


def test_the_models_grammar_holds_plain_queries_only(tokens: AudioTokens) -> None:
    class YesNo:
        def trie_for(self, query: str) -> object:
            if "yes or no" not in query:
                return None
            encode = lambda t: list(model.tokenizer(t, add_special_tokens=False).input_ids)  # noqa: E731
            return Speller(encode).one_of(["yes", "no"])

    model = tiny.model(grammar=YesNo())
    queries = ["yes or no: a frog?", "which?"]
    said = model.answer(tokens[:2], queries, SHORT)
    assert said[0].text in ("yes", "no")
    assert said[1].token_ids == tiny.model().answer(tokens[1:2], ["which?"], SHORT)[0].token_ids
    free = model.answer(tokens[:2], queries, SHORT, constraints=[None, None])
    assert free[0].text not in ("yes", "no")


def test_train_leaves_frozen_parts_in_evaluation_mode() -> None:
    model = tiny.model().train()
    assert all(part.training for part in model.children())
    config = read_hub_config(GOLDEN / "config.json").model_copy(
        update={"freeze_beats": True, "freeze_audio_QFormer": True}
    )
    build.freeze(model, config)
    model.train()
    modes = {name: part.training for name, part in model.named_children()}
    assert not any(m.training for m in model.encoder.modules())
    assert not any(m.training for m in model.qformer.modules())
    assert modes == {
        "encoder": False,
        "frame_norm": True,
        "qformer": False,
        "projector": True,
        "llm": True,
    }
    waves, lengths = torch.randn(1, RATE), torch.tensor([RATE])
    with torch.no_grad():
        assert torch.equal(model.encode(waves, lengths).tokens, model.encode(waves, lengths).tokens)
    assert not any(part.training for part in model.eval().children())


def test_the_trainable_set_is_the_published_one() -> None:
    config = read_hub_config(GOLDEN / "config.json")
    model = build.freeze(tiny.model(), config)
    frozen = {n for n, p in model.named_parameters() if not p.requires_grad}
    assert frozen == {
        n for n, _ in model.named_parameters() if n.startswith("llm.") and "lora_" not in n
    }
    frozen_ears = build.freeze(model, config.model_copy(update={"freeze_beats": True}))
    assert not any(p.requires_grad for p in frozen_ears.encoder.parameters())


def test_one_step_moves_what_trains_and_nothing_else() -> None:
    from NatureLM.models.loss import TrainingBatch

    model = build.freeze(tiny.model(), read_hub_config(GOLDEN / "config.json")).train()
    before = copy.deepcopy(model.state_dict())
    batch = TrainingBatch(
        torch.randn(2, RATE) * 0.1,
        torch.tensor([RATE, 9_000]),
        (model.prompt("which?"), model.prompt("how many?")),
        ("A frog", "Two"),
    )
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
    model(batch).loss.backward()
    optimizer.step()
    moved = {k for k, v in model.state_dict().items() if not torch.equal(v, before[k])}
    assert {k.split(".")[0] for k in moved} == {
        "encoder",
        "frame_norm",
        "qformer",
        "projector",
        "llm",
    }
    assert all("lora_" in k for k in moved if k.startswith("llm."))


def test_what_was_never_published_is_refused() -> None:
    config = read_hub_config(GOLDEN / "config.json")
    for change in (
        {"max_pooling": True},
        {"use_audio_Qformer": False},
        {"window_level_Qformer": False},
    ):
        with pytest.raises(ConfigError, match="never worked"):
            build.empty_model(config.model_copy(update=change), GOLDEN / "llama")


def test_an_empty_model_holds_no_memory_and_the_configured_format() -> None:
    config = read_hub_config(GOLDEN / "config.json").model_copy(
        update={"prompt_template": "Q {} A"}
    )
    model = build.empty_model(config, GOLDEN / "llama")
    assert {p.device.type for p in model.parameters()} == {"meta"}
    assert model.prompt("why?").text.startswith("Q <Audio>")
    assert model.ends.stop_ids == (341, 344, 345)
    assert model.ends.forbidden_ids == (346,)


def test_a_window_of_one_span_reads_the_whole_window() -> None:
    """The pocket model's way: a Q-Former without spans, several queries a window."""
    torch.manual_seed(0)
    words = tiny.tokenizer()
    shape = QFormerShape(
        width=32, heads=4, layers=1, feed_forward=64, frame_width=32, queries=3, span_frames=None
    )
    parts = Parts(
        tiny.encoder(),
        nn.Identity(),
        QFormer(shape),
        nn.Linear(32, 32),
        tiny.llm(words),
        words,
        TEMPLATES["chatml"],
    )
    model = NatureLM(parts).eval()
    waves = torch.randn(2, RATE) * 0.1
    with torch.no_grad():
        both = model.encode(waves, torch.tensor([RATE, 9_000]))
        alone = model.encode(waves[1:, :9_000], torch.tensor([9_000]))
    assert both.counts.tolist() == [3, 3]
    assert torch.allclose(both.tokens[1], alone.tokens[0], atol=1e-5)


def test_half_precision_answers() -> None:
    model = tiny.model()
    lora.plain(model.llm).to(torch.bfloat16)
    with torch.no_grad():
        tokens = model.encode(torch.randn(1, RATE) * 0.1, torch.tensor([RATE]))
    assert model.dtype is torch.bfloat16
    assert model.answer(tokens, ["which?"], SHORT)[0].finish in ("stop", "length")
    beams = Generation(max_new_tokens=3, num_beams=2)
    assert model.answer(tokens, ["which?"], beams)


def test_folding_holds_no_weight_twice(tokens: AudioTokens) -> None:
    model = tiny.model()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    with torch.inference_mode():
        model.answer(tokens[:1], ["which?"], SHORT)
    first = model.llama()
    assert model.llama() is first
    mlp = lora.plain(model.llm).model.layers[0].mlp
    assert mlp.gate_proj.weight.untyped_storage().data_ptr() == (
        first._layers[0].gate_up.untyped_storage().data_ptr()
    )
    assert model.llama(0.5) is not first
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    model.train()
    model.llm.requires_grad_(True)
    lora.plain(model.llm)(input_ids=torch.tensor([[1, 2]])).logits.sum().backward()
    assert mlp.gate_proj.weight.grad is not None
