import html.parser
import json
import re
from pathlib import Path

import pytest

from NatureLM import cli
from NatureLM.errors import StoreError
from NatureLM.eval.report import RunInfo, result_card, write_report
from NatureLM.eval.report_document import Figure, Grid, Section, as_html, as_markdown
from NatureLM.eval.report_plots import plot
from NatureLM.eval.score import ScoreSettings, evaluate_file, evaluate_rows
from NatureLM.scoring.rows import PredictionRow
from NatureLM.scoring.vocabulary import beans_zero_components

FIXTURES = Path(__file__).parents[1] / "golden" / "beans_zero"
NASTY = "<script>alert('x')</script> | pipe"


@pytest.fixture(scope="module")
def evaluation():
    rows = [
        PredictionRow(n, name, prediction, label, str(n), confidence=0.7)
        for n, (name, prediction, label) in enumerate(
            [
                ("lifestage", "adult", "adult"),
                ("lifestage", NASTY, "adult"),
                ("lifestage", None, "nestling"),
                ("unseen-family-tax", "x", "Chordata Mammalia Artiodactyla Suidae Sus scrofa"),
                ("gibbons", "Gibbon duet", "None"),
                ("gibbons", "Gibbon duet", "Gibbon duet"),
                ("captioning", "a bird", "a bird sings"),
                ("captioning", "a frog", "a frog"),
            ]
            * 4
        )
    ]
    return evaluate_rows(rows, ScoreSettings(resamples=50))


RUN = RunInfo(
    model=NASTY,
    model_revision="abc123",
    data="BEANS-Zero",
    data_revision="def456",
    settings={"num_beams": 2},
    failures={"OE004 empty": 3},
    licences={"weights": "CC-BY-NC-SA"},
    notes=("A subset of 1 %.",),
)


class Outside(html.parser.HTMLParser):
    """Collects what a browser would load or run."""

    def __init__(self):
        super().__init__()
        self.loads, self.tags = [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.loads += [value for name, value in attrs if name in ("src", "srcset", "href")]


def test_the_report_is_one_file_that_loads_and_runs_nothing(evaluation, tmp_path):
    write_report(evaluation, RUN, tmp_path)
    text = (tmp_path / "report.html").read_text("utf-8")
    page = Outside()
    page.feed(text)
    assert page.loads
    assert all(value.startswith("data:image/svg+xml;base64,") for value in page.loads)
    assert not {"script", "link", "iframe"} & set(page.tags)
    assert "prefers-color-scheme: dark" in text
    assert not re.search(r"url\(|@import", text)


def test_nothing_that_matters_is_missing_from_any_form(evaluation, tmp_path):
    write_report(evaluation, RUN, tmp_path)
    texts = {
        name: (tmp_path / name).read_text("utf-8")
        for name in ("card.json", "report.md", "report.html")
    }
    for name, text in texts.items():
        for fact in (
            "abc123",
            "def456",
            "num_beams",
            "OE004 empty",
            "CC-BY-NC-SA",
            "A subset of 1 %.",
            "SPICE needs",
        ):
            assert fact in text, (name, fact)


def test_the_card_reads_back_and_holds_versions_and_intervals(evaluation, tmp_path):
    write_report(evaluation, RUN, tmp_path)
    card = json.loads((tmp_path / "card.json").read_text("utf-8"))
    assert card == json.loads(json.dumps(result_card(evaluation, RUN)))
    assert set(card["versions"]) >= {"naturelm", "corrected scorer", "official protocol"}
    assert (
        card["scores"]["corrected"]["lifestage"]["intervals"]["accuracy_normalised"]["low"]
        is not None
    )
    assert card["licences"] == {
        "weights": "CC-BY-NC-SA",
        "lifestage": "per file licenses, please see individual files",
        "gibbons": "CC-BY-NC-SA",
        "unseen-family-tax": "per file licenses, please see individual files",
        "captioning": "per file licenses, please see individual files",
    }


def test_every_row_is_there_with_what_became_of_it(evaluation, tmp_path):
    write_report(evaluation, RUN, tmp_path)
    records = [
        json.loads(line)
        for line in (tmp_path / "rows.jsonl").read_text("utf-8").split("\n")
        if line
    ]
    assert [each["row"] for each in records] == [row.number for row in evaluation.file.rows]
    invalid, failed = records[1], records[2]
    assert (invalid["labels"], invalid["invalid"], invalid["official"]) == ([], True, "nestling")
    assert (failed["labels"], failed["invalid"], failed["official"]) == (None, False, None)


def test_the_page_of_benchmarks_lists_every_component():
    page = (Path(__file__).parents[2] / "docs" / "benchmarks.md").read_text("utf-8")
    for each in beans_zero_components().values():
        assert re.search(rf"^\| {each.name} \| [CDT] \| {each.rows} \|", page, re.MULTILINE)


def test_what_is_not_known_is_said_to_be_so(evaluation):
    card = result_card(evaluation, RunInfo())
    assert card["model"] == card["data_revision"] == "not stated"
    assert card["licences"]["weights"] == "not stated"


def test_official_metrics_have_the_official_tools_shape(tmp_path):
    evaluation = evaluate_file(FIXTURES / "cls_small.jsonl", ScoreSettings("official"))
    paths = write_report(evaluation, RunInfo(), tmp_path)
    found = json.loads((tmp_path / "official_metrics.json").read_text("utf-8"))
    wanted = json.loads((FIXTURES / "expected" / "cls_small.json").read_text("utf-8"))["metrics"]
    assert {name: set(each) for name, each in found.items()} == {
        name: set(each) for name, each in wanted.items()
    }
    assert {path.name for path in paths} == {path.name for path in tmp_path.iterdir()}


def test_what_comes_from_outside_is_escaped():
    sections = [
        Section(NASTY, (NASTY,), (Grid((">" + NASTY, "b"), ((NASTY, "c"),), NASTY),), folded=True)
    ]
    text = as_html(NASTY, sections)
    assert "<script" not in text
    assert text.count("&lt;script&gt;") == 7
    plain = as_markdown(NASTY, sections)
    assert "<script" not in plain
    assert [
        line.count(" | ")
        for line in plain.splitlines()
        if line.startswith("|") and "---" not in line
    ] == [1, 1]


def test_a_plot_is_drawn_for_light_and_dark_and_always_the_same():
    def draw(canvas, ink):
        canvas.add_subplot().plot([0, 1], color=ink.first)

    first, second = (plot(draw, "a line", 2) for _ in range(2))
    assert first == second
    assert first.light != first.dark
    assert first.light.startswith(b"<?xml")


def test_more_sections_stand_before_the_failures(evaluation, tmp_path):
    figure = Figure(b"<svg/>", b"<svg/>", "a curve")
    write_report(
        evaluation, RUN, tmp_path, [Section("Is the audio used?", ("Yes.",), figures=(figure,))]
    )
    text = (tmp_path / "report.md").read_text("utf-8")
    assert text.index("Is the audio used?") < text.index("Failures and warnings")
    assert "a curve" in text


def test_a_folder_that_cannot_be_written_is_not_stored(evaluation, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match="report not written"):
        write_report(evaluation, RUN, tmp_path / "file")
    with pytest.raises(StoreError, match="report not written"):
        write_report(evaluation, RUN, tmp_path / "file" / "below")


def test_the_command_writes_the_report(tmp_path, capsys):
    path, out = FIXTURES / "edge" / "count_words.jsonl", tmp_path / "card"
    assert cli.main(["evaluate", "score", str(path), "--out", str(out), "--resamples", "20"]) == 0
    assert "report.html" in capsys.readouterr().err
    assert (out / "report.html").exists()
    (tmp_path / "busy").touch()
    assert cli.main(["evaluate", "score", str(path), "--out", str(tmp_path / "busy")]) == 4
