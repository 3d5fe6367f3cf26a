"""The card's text form and the flat rows."""

from NatureLM.results import RecordingResult, WindowAnswer


def test_text_is_the_cards_line() -> None:
    answer = WindowAnswer(0.0, 10.0, "What?", "Green Treefrog")
    assert (
        RecordingResult("a.wav", (answer, answer)).as_text()
        == "#0.00s - 10.00s#: Green Treefrog\n" * 2
    )


def test_an_unreadable_recording_has_one_row_with_its_error() -> None:
    (row,) = RecordingResult("a.wav", error_code="not_audio", error="a.wav: text").rows()
    assert row["answer"] is None
    assert row["error_code"] == "not_audio"


def test_flags_of_recording_and_window_are_joined_once() -> None:
    answer = WindowAnswer(0.0, 1.0, "q", "None", flags=("silent", "truncated"))
    (row,) = RecordingResult("a.wav", (answer,), flags=("truncated",)).rows()
    assert row["flags"] == ["truncated", "silent"]
