"""naturelm doctor: each fault is found, named and has an advice; what is merely missing is no fault."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from NatureLM.cli import machine, main
from NatureLM.models import catalog, parts


@pytest.fixture(autouse=True)
def empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NATURELM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hub"))


def doctor(capsys: pytest.CaptureFixture[str]) -> tuple[int, dict[str, Any], dict[str, Any]]:
    code = main(["doctor", "--json"])
    report = json.loads(capsys.readouterr().out)
    return code, {row["name"]: row for row in report["findings"]}, report["facts"]


def test_a_bare_machine_is_told_what_is_missing_and_how_to_get_it(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    code, rows, facts = doctor(capsys)
    assert code == 0
    assert rows["pocket"]["state"] == "missing"
    assert "naturelm models pull pocket" in rows["pocket"]["advice"]
    assert "156 MB" in rows["pocket"]["advice"]
    assert facts["parts"] == dict.fromkeys(parts.PARTS, False)
    assert facts["cache"] == str(tmp_path / "cache")
    assert facts["device"] in ("cpu", "mps", "cuda")
    assert facts["model"]
    assert facts["cores"] >= 1


def test_the_text_says_what_the_json_says(capsys: pytest.CaptureFixture[str]) -> None:
    _, rows, _ = doctor(capsys)
    assert main(["doctor"]) == 0
    text = capsys.readouterr().out
    for row in rows.values():
        assert row["name"] in text
        assert row["advice"] in text
    assert text.splitlines()[-1].startswith("works; missing: ")


@pytest.mark.pocket
def test_a_whole_pocket_is_told(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NATURELM_CACHE")
    _, rows, facts = doctor(capsys)
    assert all(facts["parts"].values())
    assert "pocket" not in rows or rows["pocket"]["state"] == "ok"


def test_a_package_without_its_bridge_is_told(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(catalog, "BRIDGE", (tmp_path / "bridge.safetensors",))
    code, rows, _ = doctor(capsys)
    assert code == 0
    assert rows["pocket bridge"]["state"] == "missing"


def test_a_device_that_does_not_work_is_a_fault(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("no kernel image is available")

    monkeypatch.setattr(machine, "_use", broken)
    code, rows, _ = doctor(capsys)
    assert code == 1
    assert rows["device"]["state"] == "fault"
    assert "no kernel image" in rows["device"]["text"]
    assert main(["doctor"]) == 1
    assert capsys.readouterr().out.splitlines()[-1] == "broken: device"


def test_a_missing_package_is_a_fault(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "_PACKAGES", ("numpy", "no-such-package"))
    code, rows, _ = doctor(capsys)
    assert code == 1
    assert rows["packages"]["advice"].endswith("pip install no-such-package")


@pytest.mark.parametrize(("version", "state"), [((3, 9), "fault"), ((3, 14), "ok")])
def test_the_python_is_judged(
    monkeypatch: pytest.MonkeyPatch, version: tuple[int, int], state: str
) -> None:
    monkeypatch.setattr(machine.sys, "version_info", (*version, 0))
    (row,) = machine.python()
    assert row.state == state


def test_little_memory_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "_free_bytes", lambda: 10**9)
    (row,) = machine.memory()
    assert "pocket needs 2.0 GB" in row.advice
    monkeypatch.setattr(machine, "_total_bytes", lambda: None)
    (row,) = machine.memory()
    assert row.state == "ok"


def test_a_limit_of_the_container_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = machine._total_bytes()
    if whole is None:
        pytest.skip("this system does not tell")
    monkeypatch.setattr(machine, "_number", lambda path: 5000 if path.endswith("max") else 2000)
    assert machine._total_bytes() == 5000
    assert machine._free_bytes() in (3000, None)


def test_a_full_or_closed_disk_is_a_fault_while_parts_are_lacking(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    usage = machine.shutil.disk_usage(tmp_path)
    monkeypatch.setattr(machine.shutil, "disk_usage", lambda _: usage._replace(free=10))
    (row,) = machine.disk()
    assert row.state == "fault"
    assert "pocket needs 420 MB" in row.advice
    monkeypatch.setattr(os, "access", lambda *_: False)
    (row,) = machine.disk()
    assert row.state == "fault"
    assert "NATURELM_CACHE" in row.advice
    monkeypatch.setattr(parts, "cached", lambda name: tmp_path / name)
    (row,) = machine.disk()
    assert row.state == "ok"
