"""Controls change one thing and nothing else; baselines reach what they must; wordings keep what is asked."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from NatureLM.errors import ConfigError
from NatureLM.eval import baselines
from NatureLM.eval.controls import (
    ARMS,
    noise,
    partners,
    run_arm,
    run_wording,
    silence,
    spreads,
    text_only,
)
from NatureLM.eval.extras import Extras, run_extras
from NatureLM.eval.prepare import Prepared
from NatureLM.eval.runner import Job, RunSettings, run
from NatureLM.eval.score import ScoreSettings
from NatureLM.eval.task import Outline
from NatureLM.eval.tasks.beans_zero import BeansZero
from NatureLM.eval.wordings import has_options, paraphrases, reordered
from NatureLM.infer.items import ItemEngine
from NatureLM.models.model import Answer
from NatureLM.scoring.vocabulary import Component
from tests import mini_beans
from tests.web import Levels

QUICK = ScoreSettings("corrected", 0)


class Loudness(Levels):
    """Hears how loud a recording is and names the class that was recorded at that loudness; "None" for silence."""

    def answer(self, tokens, queries, *rest, **more):
        said = super().answer(tokens, queries, *rest, **more)
        return [replace(a, text=self.name_of(a.text.partition("|")[0])) for a in said]

    @staticmethod
    def name_of(level):
        if not level:
            return "nothing heard"
        return (
            ("dog", "rooster", "pig")[min(2, round(float(level) * 10))]
            if float(level) > 0.03
            else "cow"
        )


LEVELS = {"dog": 0.0001, "rooster": 0.1, "pig": 0.2}


def outlines(count=6, labels=("x", "y", "z"), component="esc50"):
    return [Outline(str(i), component, "q", labels[i % len(labels)], f"r{i}") for i in range(count)]


@pytest.fixture
def job(tmp_path):
    content = mini_beans.rows(6, 0.55, ("esc50",))
    for i, row in enumerate(content):
        label = ("rooster", "pig")[i % 2]
        square = np.where(np.arange(len(row["audio"])) // 100 % 2, 1.0, -1.0) * LEVELS[label]
        row.update(output=label, audio=square.astype(np.float32))
    task = BeansZero.open(str(mini_beans.write_parquet(tmp_path / "data", content)))
    return Job(
        task,
        list(task.outlines()),
        ItemEngine(Loudness(), 4),
        RunSettings(batch_size=4),
        tmp_path / "out",
    )


def quiet(_):
    return None


def answers(variant):
    return [row["prediction"] for row in variant.outcome.rows]


def test_a_model_that_listens_gains_from_the_sound(job):
    assert all(r["prediction"] == r["label"] for r in run(job).rows)
    arms = {name: run_arm(job, name, QUICK, quiet) for name in ARMS}
    assert set(answers(arms["silence"])) == {"cow"}
    assert set(answers(arms["text-only"])) == {"nothing heard"}
    assert all(
        a != row["label"]
        for a, row in zip(answers(arms["swapped"]), arms["swapped"].outcome.rows, strict=True)
    )
    assert {arm.headlines["esc50"].value for n, arm in arms.items() if n != "noise"} == {0.0}
    assert not any(arm.outcome.failures for arm in arms.values())


def test_the_gain_is_real_minus_control(job):
    outcome = run(job)
    found = run_extras(job, outcome, Extras(controls=("silence",)), QUICK, (quiet, quiet))
    record = found.record["controls"]["esc50"]
    assert record["real"] == 1.0
    assert record["arms"] == {"silence": 0.0}
    assert record["gain"] == {"silence": 1.0}


def test_an_arm_is_resumed_like_any_run(job):
    run_arm(job, "swapped", QUICK, quiet)
    asked = len(job.engine.model.asked)
    run_arm(job, "swapped", QUICK, quiet)
    assert len(job.engine.model.asked) == asked
    with pytest.raises(ConfigError, match="loud"):
        run_arm(job, "loud", QUICK, quiet)


def prepared(seed=0, samples=16_000):
    waveform = np.random.default_rng(seed).normal(0, 0.1, samples).astype(np.float32)
    return Prepared(outlines(1)[0], (waveform,))


def test_replaced_sound_has_the_length_type_and_power_of_the_real():
    real = prepared()
    for alter in (silence, noise):
        (heard,) = alter(real).waveforms
        assert heard.dtype == np.float32
        assert len(heard) == real.samples
    (drawn,) = noise(real).waveforms
    assert np.std(drawn) == pytest.approx(np.std(real.waveforms[0]), rel=0.02)
    assert abs(np.corrcoef(drawn, real.waveforms[0])[0, 1]) < 0.05
    np.testing.assert_array_equal(drawn, noise(real).waveforms[0])
    assert not silence(real).waveforms[0].any()
    assert text_only(real).waveforms == ()


@given(st.lists(st.sampled_from("ab"), min_size=1, max_size=12))
def test_partners_are_others_and_strangers_where_there_are_any(labels):
    part = [Outline(str(i), "c", "q", label) for i, label in enumerate(labels)]
    found = partners(part)
    if len(part) == 1:
        assert not found
        return
    for outline in part:
        partner = found[outline.name]
        assert partner.name != outline.name
        assert partner.reference != outline.reference or len(set(labels)) == 1


LABELS = ("single pulse call", "duet", "multiple pulse call", "pulse")


@given(st.permutations(LABELS), st.sampled_from(["reversed", "shuffle-1", "shuffle-2"]))
def test_turned_options_are_the_same_options(labels, order):
    query = f"Which of these, if any, are present: {', '.join(labels)}, None."
    turned = reordered(query, LABELS, order)
    assert sorted(turned.rstrip(".").partition(": ")[2].split(", ")) == sorted([*labels, "None"])
    assert turned.partition(": ")[0] == query.partition(": ")[0]
    if order == "reversed":
        assert reordered(turned, LABELS, order) == query


def test_questions_without_options_stay_and_say_so():
    assert not has_options("What is the common name?", LABELS)
    assert reordered("What is it?", LABELS, "reversed") == "What is it?"
    assert has_options("Is there only one bird or more?", ("One", "More"))
    assert (
        reordered("Is there only one bird or more?", ("One", "More"), "reversed")
        == "Is there only more bird or one?"
    )


@pytest.mark.parametrize(
    "query", ["What is the common name for the focal species in the audio?", "Is it dawn?"]
)
def test_paraphrases_begin_with_the_query_and_never_repeat(query):
    ways = paraphrases(query)
    assert ways[0] == query
    assert len(ways) == len(set(ways)) >= 3


def test_a_panel_has_its_worst_case_and_spread(job):
    outcome = run(job)

    class Fussy(Loudness):
        def answer(self, tokens, queries, *rest, **more):
            said = super().answer(tokens, queries, *rest, **more)
            return [
                Answer("?", (1,), 0.0, "stop") if "Listen" in str(q) else a
                for a, q in zip(said, queries, strict=True)
            ]

    fussy = replace(job, engine=ItemEngine(Fussy(), 4))
    same = run_wording(fussy, "same", lambda o: o.query, QUICK, quiet)
    other = run_wording(fussy, "other", lambda o: f"Listen. {o.query}", QUICK, quiet)
    spread = spreads([same, other])["esc50"]
    assert (spread.worst, spread.spread, spread.agreement) == (0.0, 1.0, 0.0)
    assert len(outcome.rows) == 6


def test_extras_are_checked():
    for wrong in (
        {"controls": ("x",)},
        {"panels": ("x",)},
        {"baselines": ("x",)},
        {"alphas": (1.5,)},
    ):
        with pytest.raises(ConfigError):
            Extras(**wrong)


def test_majority_is_the_best_constant():
    part = outlines(7, ("a", "b", "a"))
    (answer,) = set(baselines.majority(part))
    best = max(("a", "b"), key=lambda x: sum(o.reference == x for o in part))
    assert answer == best
    assert baselines.majority(outlines(2, ("b", "a"))) == ["a", "a"]


def test_chance_draws_from_the_vocabulary_the_same_every_time():
    component = Component("esc50", "classification", ("a", "b", "c"))
    part = outlines(300)
    drawn = baselines.chance(part, component)
    assert drawn == baselines.chance(part[::-1], component)[::-1]
    counts = [drawn.count(label) for label in "abc"]
    assert min(counts) > 60


def features(part, spread=0.1):
    rng = np.random.default_rng(0)
    means = {label: rng.normal(0, 1, 40) for label in sorted({o.reference for o in part})}
    return {o.name: means[o.reference] + rng.normal(0, spread, 40) for o in part}


def test_a_probe_learns_what_the_features_hold_and_nothing_else():
    part = outlines(120)
    component = Component("esc50", "classification", ("x", "y", "z"))
    told = baselines.probe(part, component, features(part))
    assert np.mean([a == o.reference for a, o in zip(told, part, strict=True)]) > 0.95
    deaf = {o.name: np.random.default_rng(i).normal(0, 1, 40) for i, o in enumerate(part)}
    guessed = baselines.probe(part, component, deaf)
    assert np.mean([a == o.reference for a, o in zip(guessed, part, strict=True)]) < 0.55


def test_a_probe_never_sees_the_recording_that_it_judges():
    part = [Outline(str(i), "c", "q", f"label{i}", recording=f"r{i}") for i in range(30)]
    vectors = {o.name: np.eye(30)[i] for i, o in enumerate(part)}
    told = baselines.probe(part, Component("c", "classification"), vectors)
    assert not any(a == o.reference for a, o in zip(told, part, strict=True))


def test_a_detection_probe_names_several_labels_or_none():
    part = [
        Outline(str(i), "c", "q", ("None", "A", "B", "A, B")[i % 4], recording=f"r{i}")
        for i in range(200)
    ]
    noise_of = np.random.default_rng(0)
    vectors = {
        o.name: np.array([float("A" in o.reference), float("B" in o.reference), 0.3])
        + noise_of.normal(0, 0.05, 3)
        for o in part
    }
    told = baselines.probe(part, Component("c", "detection", ("A", "B")), vectors)
    assert np.mean([a == o.reference for a, o in zip(told, part, strict=True)]) > 0.95


def test_features_come_from_the_encoder_for_every_readable_example(job):
    vectors = baselines.features(job)
    assert set(vectors) == {o.name for o in job.outlines}
    assert {v.shape for v in vectors.values()} == {(8,)}
