"""LoRA: scaled for a block and put back, folded with equal logits, and only the adapter trains."""

import pytest
import torch

from NatureLM.errors import ConfigError
from NatureLM.models import lora
from tests import tiny

WORDS = tiny.tokenizer()


@pytest.fixture(scope="module")
def llm() -> object:
    torch.manual_seed(0)
    return tiny.llm(WORDS).eval()


def logits(llm, ids=((1, 5, 9, 200),)) -> torch.Tensor:
    with torch.no_grad():
        return llm(input_ids=torch.tensor(ids), use_cache=False).logits


def by_formula(llm, alpha: float) -> torch.Tensor:
    """W0 + alpha * (lora_alpha / rank) * B A, put into the plain LLM by hand."""
    base = lora.merged(llm, 0.0)
    for name, module in lora.layers(lora.plain(llm)):
        a, b = module.lora_A["default"].weight, module.lora_B["default"].weight
        rank = a.shape[0]
        weight = module.base_layer.weight + alpha * (2 * rank / rank) * (b @ a)
        base.get_submodule(name).weight = torch.nn.Parameter(weight)
    return logits(base)


@pytest.mark.parametrize("alpha", [0.0, 0.3, 1.0])
def test_scaled_folded_and_the_formula_agree(llm, alpha: float) -> None:
    expected = by_formula(llm, alpha)
    with lora.scaled(llm, alpha):
        assert torch.allclose(logits(llm), expected, atol=1e-5)
    assert torch.allclose(logits(lora.merged(llm, alpha)), expected, atol=1e-5)


def test_alpha_one_is_the_adapter_and_alpha_zero_the_base(llm) -> None:
    with llm.disable_adapter():
        base = logits(llm)
    assert torch.allclose(logits(lora.merged(llm, 0.0)), base, atol=1e-6)
    assert not torch.allclose(logits(llm), base, atol=1e-3)


def test_scaling_never_sticks_even_after_an_error(llm) -> None:
    before = logits(llm)
    with pytest.raises(RuntimeError, match="on purpose"), lora.scaled(llm, 0.2):
        raise RuntimeError("on purpose")
    assert torch.equal(logits(llm), before)


def test_setting_alpha_inside_alpha_multiplies_and_leaves_nothing(llm) -> None:
    before = logits(llm)
    with lora.scaled(llm, 0.5), lora.scaled(llm, 0.5):
        inner = logits(llm)
    assert torch.allclose(inner, by_formula(llm, 0.25), atol=1e-5)
    assert torch.equal(logits(llm), before)


@pytest.mark.parametrize("alpha", [-0.1, 1.1, float("nan")])
def test_an_alpha_outside_its_range_is_refused(llm, alpha: float) -> None:
    with pytest.raises(ConfigError, match="between 0"), lora.scaled(llm, alpha):
        pass
    with pytest.raises(ConfigError, match="between 0"):
        lora.merged(llm, alpha)


def test_folding_shares_what_has_no_adapter_and_leaves_the_original_alone(llm) -> None:
    before = {k: v.clone() for k, v in llm.state_dict().items()}
    folded = lora.merged(llm, 0.7)
    assert not any("lora" in name for name, _ in folded.named_parameters())
    assert folded.lm_head.weight is lora.plain(llm).lm_head.weight
    assert all(torch.equal(v, before[k]) for k, v in llm.state_dict().items())


def test_only_the_adapter_trains(llm) -> None:
    names = [n for n, p in llm.named_parameters() if p.requires_grad]
    assert names
    assert all("lora_" in n for n in names)
    assert len(names) == 2 * 4 * 2


def test_a_plain_llm_has_nothing_to_scale(llm) -> None:
    plain = lora.merged(llm, 1.0)
    with lora.scaled(plain, 0.1):
        assert torch.equal(logits(plain), logits(lora.merged(plain, 0.3)))
    assert lora.plain(plain) is plain


def test_folding_in_half_precision_stays_in_half_precision() -> None:
    torch.manual_seed(0)
    half = tiny.llm(WORDS).eval().bfloat16()
    folded = lora.merged(half, 0.5)
    assert {p.dtype for p in folded.parameters()} == {torch.bfloat16}
