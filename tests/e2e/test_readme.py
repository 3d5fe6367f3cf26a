"""Every command and snippet of the README runs in a folder with recordings, and prints what the README says it prints."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from NatureLM.models import parts

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(
    r"^```(console|python)\n(.*?)^```\n(?:\s*```text\n(.*?)^```)?", re.MULTILINE | re.DOTALL
)
MAKE = re.compile(r"^(make|git|cd|python3? -m venv|pip) ?")
"""What a reader types outside an installed environment: continuous integration runs those itself."""


def blocks(page: Path, language: str) -> list[tuple[str, str]]:
    found = BLOCK.findall(page.read_text(encoding="utf-8"))
    return [(code, printed) for kind, code, printed in found if kind == language]


def commands(page: Path) -> list[tuple[str, list[str]]]:
    """Pair each command of the page with the lines that it is said to print."""
    pairs: list[tuple[str, list[str]]] = []
    for code, _ in blocks(page, "console"):
        for line in code.splitlines():
            if line.startswith("$ "):
                pairs.append((line[2:].split("   #")[0].strip(), []))
            elif pairs and line.strip():
                pairs[-1][1].append(line)
    return [(command, printed) for command, printed in pairs if not MAKE.match(command)]


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Lay out a folder as the README's reader has it: one recording and a card of them."""
    folder = tmp_path_factory.mktemp("desk")
    recording = parts.cached("demo-recording")
    assert recording, "run `naturelm models pull pocket` first"
    (folder / "card" / "site 1").mkdir(parents=True)
    shutil.copy(recording, folder / "recording.wav")
    shutil.copy(recording, folder / "card" / "site 1" / "20260501_050000.WAV")
    shutil.copy(recording, folder / "card" / "dawn.wav")
    return folder


def run(command: list[str] | str, folder: Path) -> str:
    environment = dict(os.environ, COLUMNS="120", PYTHONPATH=str(ROOT))
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}"
    done = subprocess.run(
        command,
        cwd=folder,
        shell=isinstance(command, str),
        env=environment,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def assert_says(said: str, promised: list[str]) -> None:
    """Compare line by line; a promised line of three dots stands for any lines."""
    pattern = "".join(
        "(?s:.*?)" if line.strip() == "..." else re.escape(line) + r"\s*\n" for line in promised
    )
    assert re.fullmatch(pattern, said if said.endswith("\n") else said + "\n"), said


@pytest.mark.pocket
@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_the_commands_print_what_the_page_says(page: Path, desk: Path) -> None:
    for command, promised in commands(page):
        said = run(command, desk)
        if promised:
            assert_says(said, promised)


@pytest.mark.pocket
@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_the_snippets_print_what_the_page_says(page: Path, desk: Path) -> None:
    for code, printed in blocks(page, "python"):
        said = run([sys.executable, "-c", code], desk)
        if printed:
            assert_says(said, printed.splitlines())


def test_the_readme_has_something_to_run() -> None:
    assert len(commands(PAGES[0])) >= 4
    assert len(blocks(PAGES[0], "python")) >= 1


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_links_to_files_of_the_project_exist(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#\s]+)", page.read_text(encoding="utf-8")):
        if "://" not in target and not target.startswith("mailto:"):
            assert (page.parent / target).exists(), target
