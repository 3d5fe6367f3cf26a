"""SPICE through Java, when its jars are there; otherwise the reason why not.

Knows the program's own JSON files, no component. ``spice-1.0.jar`` looks for Stanford CoreNLP 3.6.0 and its models in the folder
``lib`` beside it. One run scores all captions; nothing is downloaded.
"""

from __future__ import annotations

import json
import math
import os
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from NatureLM.errors import DependencyError

ENVIRONMENT = "NATURELM_SPICE"
"""Names the folder with the jars when no option does."""

_JAR = "spice-1.0.jar"
_CORENLP = ("stanford-corenlp-3.6.0.jar", "stanford-corenlp-3.6.0-models.jar")


@dataclass(frozen=True)
class JavaSpice:
    """SPICE of captions against one reference each.

    Attributes:
        java: The Java program.
        jar: ``spice-1.0.jar``.
    """

    java: str
    jar: Path

    def __call__(self, answers: Sequence[str], references: Sequence[str]) -> list[float]:
        """Score captions, each from 0 to 1.

        Raises:
            RuntimeError: Java stopped or wrote something else than scores.
        """
        with tempfile.TemporaryDirectory() as folder:
            asked, told = Path(folder) / "captions.json", Path(folder) / "scores.json"
            rows = [
                {"image_id": number, "test": answer, "refs": [reference]}
                for number, (answer, reference) in enumerate(zip(answers, references, strict=True))
            ]
            asked.write_text(json.dumps(rows), encoding="utf-8")
            command = [self.java, "-Xmx8G", "-jar", str(self.jar), str(asked)]
            command += ["-out", str(told), "-subset", "-silent"]
            done = subprocess.run(
                command, cwd=self.jar.parent, capture_output=True, text=True, check=False
            )
            if done.returncode or not told.exists():
                last = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
                raise RuntimeError(f"SPICE stopped with exit code {done.returncode}: {last}")
            return _scores(told.read_text(encoding="utf-8"), len(rows))


def _scores(text: str, count: int) -> list[float]:
    found = {int(row["image_id"]): float(row["scores"]["All"]["f"]) for row in json.loads(text)}
    if len(found) != count:
        raise RuntimeError(f"SPICE scored {len(found)} of {count} captions")
    return [0.0 if math.isnan(found[number]) else found[number] for number in range(count)]


def find_spice(folder: str | Path | None = None) -> JavaSpice:
    """Find Java and the jars.

    Args:
        folder: Where ``spice-1.0.jar`` and ``lib`` are; the environment variable ``NATURELM_SPICE`` when left out.

    Raises:
        DependencyError: Something is missing; says what.
    """
    named = folder or os.environ.get(ENVIRONMENT)
    if not named:
        raise DependencyError(
            f"SPICE needs Java and its jars; name their folder with --spice-jars or {ENVIRONMENT}"
        )
    jar = Path(named).resolve() / _JAR
    missing = [
        name for name in (jar, *(jar.parent / "lib" / x for x in _CORENLP)) if not name.exists()
    ]
    if missing:
        raise DependencyError(f"SPICE needs {', '.join(str(name) for name in missing)}, not found")
    java = shutil.which("java")
    if java is None:
        raise DependencyError("SPICE needs Java, and there is no java on the PATH")
    return JavaSpice(java, jar)
