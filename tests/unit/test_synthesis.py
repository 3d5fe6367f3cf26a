"""Laws of made-up evidence and of the questions asked about it."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from NatureLM.data.evidence import (
    ABSENT_LOGIT,
    PRESENT_LOGIT,
    RIVALS,
    EvidenceBank,
    Synthesis,
    Synthesiser,
    embedding_statistics,
    load_bank,
    make_bank,
    save_bank,
)
from NatureLM.data.examples import heard_in
from NatureLM.data.questions import Heard, Questioner
from NatureLM.models.pocket.wording import NONE
from NatureLM.taxonomy.names import Taxon, Taxonomy

CLASSES, WIDTH, SOUNDS = 60, 24, 4


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def bank() -> EvidenceBank:
    g = generator()
    embeddings = torch.randn(300, WIDTH, generator=g).relu()
    prototypes = torch.randn(CLASSES, WIDTH, generator=g)
    statistics = embedding_statistics(embeddings, rank=8)
    return make_bank(prototypes, -3 * torch.ones(CLASSES), statistics, near=20)


BANK = bank()
MAKE = Synthesiser(BANK, torch.arange(CLASSES - SOUNDS, CLASSES))
TAXONOMY = Taxonomy(
    Taxon(i, f"Sound {i}", "", "", "", "", "", "sound")
    if i >= CLASSES - SOUNDS
    else Taxon(i, f"Bird {i}", f"Avis a{i}", "Avis", "Avidae", "Aviformes", "Aves", "bird")
    for i in range(CLASSES)
)


def test_the_asked_class_scores_exactly_what_was_asked_and_rivals_less() -> None:
    wanted = torch.arange(CLASSES).repeat(20)
    asked = torch.linspace(PRESENT_LOGIT, 6.0, len(wanted))
    full = torch.zeros(len(wanted), dtype=torch.bool)
    classes, logits = MAKE.segments(wanted, asked, full, generator())
    assert torch.equal(classes[:, 0], wanted)
    assert torch.equal(logits[:, 0], asked)
    assert (logits[:, :-1] >= logits[:, 1:]).all()
    assert (logits[:, 0] - logits[:, 1] >= 0.14).all()
    assert all(len(set(row)) == RIVALS for row in classes.tolist())


def test_without_a_rectifier_conditioning_is_exact() -> None:
    g = generator(3)
    wanted = torch.randint(0, CLASSES, (50,), generator=g)
    asked = torch.randn(50, generator=g)
    above = replace(BANK, mean=BANK.mean + 60.0, bias=BANK.bias)  # far from the rectifier's corner
    z = Synthesiser(above, MAKE.sounds).conditioned(wanted, asked, g)
    assert torch.allclose(z.gather(1, wanted[:, None])[:, 0], asked, atol=1e-2)


def test_nothing_is_present_in_an_empty_segment() -> None:
    wanted, asked = torch.arange(CLASSES), torch.full((CLASSES,), 3.0)
    empty = torch.ones(CLASSES, dtype=torch.bool)
    _, logits = MAKE.segments(wanted, asked, empty, generator())
    assert (logits <= ABSENT_LOGIT + 1e-5).all()
    assert ABSENT_LOGIT < PRESENT_LOGIT


def test_windows_hold_nothing_one_two_or_three_classes_in_the_shares_asked_for() -> None:
    only = Synthesiser(BANK, MAKE.sounds, Synthesis(species=(1.0, 0.0, 0.0, 0.0)))
    assert all(h.present() == [] for h in heard_in(only(200, generator())))
    evidence = MAKE(4000, generator())
    silent = sum(h.present() == [] for h in heard_in(evidence)) / 4000
    assert silent == pytest.approx(Synthesis().species[0], abs=0.02)
    counts = torch.bincount(evidence.real.sum(1), minlength=6)[1:] / 4000
    assert torch.allclose(counts, torch.tensor(Synthesis().lengths), atol=0.03)


def test_a_seed_makes_the_same_windows_again_and_another_seed_others() -> None:
    one, same, other = (MAKE(32, generator(seed)) for seed in (5, 5, 6))
    assert torch.equal(one.classes, same.classes)
    assert torch.equal(one.logits, same.logits)
    assert not torch.equal(one.classes, other.classes)


def test_segments_start_at_nought_and_never_further_than_three_seconds_apart() -> None:
    evidence = MAKE(500, generator(2))
    for starts, real in zip(evidence.starts, evidence.real, strict=True):
        steps = starts[real].diff()
        assert starts[0] == 0
        assert ((steps > 0) & (steps <= 3.0 + 1e-5)).all()


def test_frames_say_what_the_evidence_says() -> None:
    evidence = MAKE(16, generator(4))
    frames, counts = evidence.frames(BANK.directions)
    assert frames.shape == (16, evidence.real.shape[1] * RIVALS, WIDTH + 4)
    assert torch.equal(counts, evidence.real.sum(1) * RIVALS)
    for row, count in zip(frames, counts.tolist(), strict=True):
        assert not row[count:].any()
        assert torch.allclose(row[:count, :WIDTH].norm(dim=1), torch.ones(count), atol=1e-5)
        assert torch.allclose(row[:count, WIDTH].sigmoid(), row[:count, WIDTH + 1])


def test_the_strongest_classes_are_listed_once_each() -> None:
    evidence = MAKE(64, generator(7))
    classes, logits = evidence.strongest()
    for row, scores, heard in zip(classes, logits, heard_in(evidence), strict=True):
        kept = scores > -torch.inf
        assert row[kept].tolist() == [c for c, _ in heard.ranked()]


def test_a_bank_comes_back_from_its_file(tmp_path: Path) -> None:
    save_bank(BANK, tmp_path / "bank.safetensors")
    back = load_bank(tmp_path / "bank.safetensors")
    assert torch.equal(back.neighbours, BANK.neighbours)
    assert torch.allclose(back.prototypes, BANK.prototypes, atol=2e-3)
    assert torch.allclose(back.factor, BANK.factor, atol=1e-3)


def test_neighbours_are_the_nearest_and_never_the_class_itself() -> None:
    assert not (BANK.neighbours == torch.arange(CLASSES)[:, None]).any()


def test_answers_follow_the_evidence_by_one_rule() -> None:
    ask = Questioner(TAXONOMY, BANK.neighbours.tolist())
    rng, kinds = random.Random(1), set()
    for heard in heard_in(MAKE(3000, generator(8))):
        kind, question, answer = ask(heard, rng)
        kinds.add(kind)
        present = heard.present()
        if kind == "common":
            assert answer == (TAXONOMY[present[0]].common if present else NONE)
        if kind == "options" and answer != NONE:
            assert set(answer.split(", ")) <= {TAXONOMY[c].common for c in present} | {
                TAXONOMY[c].scientific for c in present
            }
            assert all(name in question for name in answer.split(", "))
        if kind == "yes_no" and answer == "Yes":
            assert any(f"{TAXONOMY[c].common} " in f"{question.rstrip('?')} " for c in present)
    assert len(kinds) == 18


def test_times_are_joined_where_segments_touch() -> None:
    heard = Heard(
        [[1, 2], [1, 2], [3, 1], [1, 2]], [[2, -5], [1, -5], [3, -5], [0, -5]], [0.0, 3.0, 6.0, 9.0]
    )
    ask = Questioner(TAXONOMY, BANK.neighbours.tolist())
    assert ask.answer("when_focal", heard) == "6-9 s"
    assert heard.times(1) == [(0.0, 3.0), (3.0, 6.0), (9.0, 12.0)]
