"""A run gives one row an example, whatever happens, and stopping it anywhere changes nothing."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from NatureLM.config import Generation
from NatureLM.errors import ConfigError, PromptError, StoreError
from NatureLM.eval.runner import PUBLISHED_GENERATION, Job, RunSettings, run
from NatureLM.eval.store import Journal, fingerprint
from NatureLM.eval.task import Outline, Selection, example_id, select
from NatureLM.eval.tasks.beans_zero import BeansZero
from NatureLM.infer.items import ItemEngine
from tests import mini_beans, tiny

SOME = ("esc50", "hiceas", "gibbons", "captioning")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("mini") / "data"
    return mini_beans.write_parquet(folder, mini_beans.rows(4, 0.55, SOME))


@pytest.fixture(scope="module")
def task(data):
    return BeansZero.open(str(data))


def job(task, folder, model=None, **knobs):
    model = model or tiny.stub_model(["dog", "None", "3", ""])
    run_settings = RunSettings(**{"batch_size": 3, **knobs})
    outlines = list(task.outlines())
    return Job(task, outlines, ItemEngine(model, run_settings.batch_size), run_settings, folder)


def rows_of(path: Path):
    return [json.loads(line) for line in path.read_bytes().split(b"\n") if line]


def echo(query: str) -> str:
    return f"heard {fingerprint(query)[:5]}"


def test_every_example_has_a_row_in_the_order_of_the_data(task, tmp_path):
    outcome = run(job(task, tmp_path, tiny.stub_model(echo)))
    rows = rows_of(tmp_path / "predictions.jsonl")
    names = [(row["dataset_name"], row["id"]) for row in rows]
    assert names == [o.name for o in task.outlines()]
    assert list(rows[0])[:4] == ["prediction", "label", "id", "dataset_name"]
    assert all(row["prediction"] == echo(row["query"]) for row in rows)
    assert outcome.progress.done == outcome.progress.total == len(rows)
    assert not outcome.failures


@pytest.mark.parametrize("cut", [0.05, 0.3, 0.62, 0.999])
def test_going_on_equals_never_stopping(task, tmp_path, cut):
    run(job(task, tmp_path / "whole", tiny.stub_model(echo)))
    run(job(task, tmp_path / "cut", tiny.stub_model(echo)))
    journal = tmp_path / "cut" / "journal.jsonl"
    content = journal.read_bytes()
    journal.write_bytes(content[: int(len(content) * cut)])
    (tmp_path / "cut" / "predictions.jsonl").unlink()
    model = tiny.stub_model(echo)
    outcome = run(job(task, tmp_path / "cut", model))
    kept = content[: int(len(content) * cut)].count(b"\n")
    assert outcome.progress.reused == kept
    assert len(model.queries) == len(outcome.rows) - kept
    whole, again = (tmp_path / name / "predictions.jsonl" for name in ("whole", "cut"))
    assert again.read_bytes() == whole.read_bytes()


def test_a_finished_run_asks_nothing_again_and_reads_no_audio(task, tmp_path, monkeypatch):
    run(job(task, tmp_path))
    monkeypatch.setattr(task, "examples", lambda _: pytest.fail("audio was read"))
    model = tiny.stub_model(echo)
    assert run(job(task, tmp_path, model)).progress.reused == 16
    assert not model.queries


@pytest.mark.parametrize(
    "knobs",
    [{"generation": Generation(max_new_tokens=5)}, {"merging_alpha": 0.5}, {"arm": "silence"}],
)
def test_other_settings_are_other_answers(task, tmp_path, knobs):
    run(job(task, tmp_path))
    model = tiny.stub_model(echo)
    run(job(task, tmp_path, model, **knobs))
    assert len(model.queries) == 16


def test_another_batch_size_is_no_other_answer(task, tmp_path):
    run(job(task, tmp_path))
    assert run(job(task, tmp_path, batch_size=7, workers=1)).progress.reused == 16


def test_a_moved_copy_of_the_data_keeps_its_answers_by_what_was_heard(data, task, tmp_path):
    run(job(task, tmp_path / "out", tiny.stub_model(echo)))
    content = mini_beans.rows(4, 0.55, SOME)
    content[0] = dict(content[0], output="another truth")
    moved = BeansZero.open(str(mini_beans.write_parquet(tmp_path / "moved", content, shards=1)))
    assert moved.revision != task.revision
    model = tiny.stub_model(echo)
    outcome = run(job(moved, tmp_path / "out", model))
    assert not model.queries
    assert outcome.rows[0]["label"] == "another truth"


class Picky(tiny.ScriptedModel):
    """Cannot answer about one component."""

    def answer(self, tokens, queries, *rest, **more):
        if any("gibbon" in q for q in queries):
            raise PromptError("not about gibbons")
        return super().answer(tokens, queries, *rest, **more)


def test_a_faulty_item_costs_its_neighbours_nothing(task, tmp_path):
    outcome = run(job(task, tmp_path, Picky(echo), batch_size=16))
    wrong = {row["dataset_name"] for row in outcome.rows if row["error_code"]}
    assert wrong == {"gibbons"}
    assert outcome.failures == {"PromptError": 4}
    assert all(row["prediction"] == echo(row["query"]) for row in outcome.rows if not row["error"])
    model = tiny.stub_model(echo)
    assert not run(job(task, tmp_path, model)).failures, "failed examples are tried again"
    assert len(model.queries) == 4


def test_audio_faults_are_rows(tmp_path):
    content = mini_beans.rows(1, 0.55, ("cbi", "watkins"))
    content[0] = dict(content[0], audio=None)
    task = BeansZero.open(str(mini_beans.write_parquet(tmp_path / "data", content, shards=1)))
    outcome = run(job(task, tmp_path / "out"))
    assert outcome.failures == {"no_audio": 1}
    assert outcome.progress.failed == 1
    assert all(isinstance(row["prediction"], str) for row in outcome.rows), (
        "null stops the official tool"
    )


def test_answers_do_not_depend_on_the_batch(task, tmp_path):
    model, few = tiny.model(), Generation(max_new_tokens=3)
    texts = []
    for size in (1, 4):
        whole = job(task, tmp_path / str(size), model, batch_size=size, generation=few)
        part = replace(whole, outlines=whole.outlines[2:6])
        texts.append([row["prediction"] for row in run(part).rows])
    assert texts[0] == texts[1]
    assert len(set(texts[0])) > 1


class Counting(tiny.ScriptedModel):
    """Notes what it was fed."""

    def __init__(self, script):
        super().__init__(script)
        self.fed = []

    def encode(self, waveforms, lengths):
        self.fed.append((waveforms.dtype, tuple(waveforms.shape), lengths.tolist()))
        return super().encode(waveforms, lengths)

    def answer(self, tokens, queries, generation, **more):
        assert generation == PUBLISHED_GENERATION
        return super().answer(tokens, queries, generation, **more)


def test_published_inference_is_fed_padded_batches_of_one_component(data, tmp_path):
    task = BeansZero.open(str(data), "published")
    model = Counting(echo)
    run(
        job(
            task,
            tmp_path,
            model,
            parity="published",
            generation=PUBLISHED_GENERATION,
            batch_size=16,
        )
    )
    assert [shape for _, shape, _ in model.fed] == [
        (4, 80_000),
        (4, 160_000),
        (4, 160_000),
        (4, 160_000),
    ]
    assert all(set(lengths) == {shape[1]} for _, shape, lengths in model.fed)
    assert {str(dtype) for dtype, _, _ in model.fed} == {"torch.float64"}


KILLED = """
import sys, time
from pathlib import Path
from NatureLM.eval.runner import Job, RunSettings, run
from NatureLM.eval.tasks.beans_zero import BeansZero
from NatureLM.infer.items import ItemEngine
from tests import tiny
from tests.unit.test_eval_runner import echo
def slow(query):
    time.sleep(0.05)
    return echo(query)
task = BeansZero.open(sys.argv[1])
job = Job(task, list(task.outlines()), ItemEngine(tiny.stub_model(slow), 2), RunSettings(batch_size=2), Path(sys.argv[2]))
run(job, lambda p: print(p.done, flush=True))
"""


def test_a_killed_process_is_gone_on_with(data, task, tmp_path):
    root = Path(__file__).parents[2]
    child = subprocess.Popen(
        [sys.executable, "-c", KILLED, str(data), str(tmp_path / "cut")],
        stdout=subprocess.PIPE, cwd=root, env={**os.environ, "PYTHONPATH": str(root)},
    )  # fmt: skip
    for line in child.stdout:
        if int(line) >= 4:
            break
    os.kill(child.pid, signal.SIGKILL)
    child.wait()
    child.stdout.close()
    outcome = run(job(task, tmp_path / "cut", tiny.stub_model(echo)))
    assert 4 <= outcome.progress.reused < 16
    run(job(task, tmp_path / "whole", tiny.stub_model(echo)))
    whole, again = (tmp_path / name / "predictions.jsonl" for name in ("whole", "cut"))
    assert again.read_bytes() == whole.read_bytes()


@given(st.lists(st.dictionaries(st.text(), st.text() | st.integers() | st.none())), st.data())
@settings(max_examples=40, deadline=None)
def test_a_journal_cut_anywhere_keeps_its_whole_lines(tmp_path_factory, rows, data):
    path = tmp_path_factory.mktemp("journal") / "j.jsonl"
    journal = Journal(path)
    journal.append(rows)
    journal.close()
    content = path.read_bytes()
    cut = data.draw(st.integers(0, len(content)))
    path.write_bytes(content[:cut])
    again = Journal(path)
    again.append([{"more": 1}])
    again.close()
    assert again.rows == [*rows[: content[:cut].count(b"\n")], {"more": 1}]
    last = Journal(path)
    last.close()
    assert last.rows == again.rows
    assert not last.repaired_bytes


def test_damage_in_the_middle_is_cut_and_kept_beside(tmp_path):
    path = tmp_path / "j.jsonl"
    path.write_bytes(b'{"a": 1}\n\0\0\0\n{"b": 2}\n')
    journal = Journal(path)
    journal.close()
    assert journal.rows == [{"a": 1}]
    assert (tmp_path / "j.damaged").read_bytes() == b'\0\0\0\n{"b": 2}\n'


def test_two_runs_do_not_share_a_folder(tmp_path):
    first = Journal(tmp_path / "j.jsonl")
    with pytest.raises(StoreError, match="another run"):
        Journal(tmp_path / "j.jsonl")
    first.close()
    Journal(tmp_path / "j.jsonl").close()


class Full:
    """A file on a disk that is full after some bytes."""

    def __init__(self, file, room):
        self._file, self._room = file, room

    def write(self, block):
        if self._room <= 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        written = self._file.write(block[: self._room])
        self._room -= written
        return written

    def __getattr__(self, name):
        return getattr(self._file, name)


def test_a_full_disk_leaves_whole_lines(tmp_path):
    journal = Journal(tmp_path / "j.jsonl")
    journal.append([{"a": 1}])
    journal._file = Full(journal._file, 5)
    with pytest.raises(StoreError, match="No space left"):
        journal.append([{"b": 2}])
    journal.close()
    assert (tmp_path / "j.jsonl").read_bytes() == b'{"a": 1}\n'


def outlines(count, labels=("a", "b", "c", "d")):
    return [
        Outline(f"id{i}", component, "q", labels[int(i**1.5) % len(labels)])
        for component in ("x", "y")
        for i in range(count)
    ]


def test_a_subset_does_not_depend_on_the_order_and_keeps_shares():
    whole = outlines(500)
    chosen = select(whole, Selection(fraction=0.1))
    shuffled = [whole[i] for i in np.random.default_rng(0).permutation(len(whole))]
    assert {o.name for o in select(shuffled, Selection(fraction=0.1))} == {o.name for o in chosen}
    for component in ("x", "y"):
        part = [o for o in chosen if o.component == component]
        assert len(part) == 50
        for label in "abcd":
            share = sum(o.reference == label for o in whole if o.component == component) / 500
            assert sum(o.reference == label for o in part) == pytest.approx(50 * share, abs=1)


@given(st.integers(1, 40), st.floats(0.001, 1))
def test_a_share_is_never_empty_and_never_repeats(count, fraction):
    part = select(outlines(count), Selection(fraction=fraction))
    assert len({o.name for o in part}) == len(part) == 2 * int(np.ceil(count * fraction))


def test_listed_ids_are_exactly_what_is_used():
    whole = outlines(5)
    ids = frozenset(example_id(o) for o in whole[3:7])
    assert select(whole, Selection(ids=ids)) == whole[3:7]
    with pytest.raises(ConfigError, match="not in the data"):
        select(whole, Selection(ids=ids | {"x/none"}))
    assert [o.id for o in select(whole, Selection(components=("y",), limit=2))] == ["id0", "id1"]


def test_the_run_keeps_no_more_ahead_than_it_says(task, tmp_path):
    read, asked = [], []

    class Watched(BeansZero):
        def examples(self, wanted):
            for example in super().examples(wanted):
                read.append(time.monotonic())
                yield example

    watched = Watched(task._source)

    def script(query):
        asked.append(len(read))
        return "x"

    run(job(watched, tmp_path, tiny.stub_model(script), batch_size=1, workers=1))
    assert asked[0] <= 1 * 8 + 6
