"""The documentation's tables say what the code does."""

from __future__ import annotations

from pathlib import Path

from NatureLM.audio.flags import FAULTS, FLAGS

DOCS = Path(__file__).parents[2] / "docs"


def test_every_flag_and_fault_is_explained() -> None:
    page = (DOCS / "recordings.md").read_text(encoding="utf-8")
    for code in FLAGS | FAULTS:
        assert f"| `{code}` |" in page, code
    for code, meaning in FLAGS.items():
        assert f"| `{code}` | {meaning} |" in page, code


def test_no_page_names_an_index() -> None:
    for page in [*DOCS.rglob("*.md"), DOCS.parent / "README.md", DOCS.parent / "CHANGELOG.md"]:
        text = page.read_text(encoding="utf-8")
        for word in ("index-url", "find-links", "file:///"):
            assert word not in text, f"{page.name}: {word}"
