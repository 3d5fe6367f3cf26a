"""How long does it take to score a whole BEANS-Zero run?

Makes 91,965 predictions with the real component sizes and label lists, a third of them misspelt, and times every scorer:

    python benchmarks/scoring.py [FOLDER]
"""

from __future__ import annotations

import json
import random
import string
import sys
import tempfile
import time
from pathlib import Path

from NatureLM.eval.score import ScoreSettings, evaluate_file
from NatureLM.scoring.vocabulary import Component, beans_zero_components

WORDS = (
    "a",
    "two",
    "several",
    "bird",
    "frog",
    "whale",
    "calls",
    "sings",
    "chirps",
    "near",
    "water",
    "dawn",
    "wind",
)


def misspell(text: str, rng: random.Random) -> str:
    characters = list(text)
    for _ in range(rng.randint(1, 6)):
        place = rng.randrange(len(characters) + 1)
        characters[place : place + rng.randint(0, 1)] = rng.choice(string.ascii_lowercase)
    return "".join(characters)


def caption(rng: random.Random) -> str:
    return " ".join(rng.choice(WORDS) for _ in range(rng.randint(6, 16)))


def row(component: Component, number: int, rng: random.Random) -> dict[str, str]:
    if component.task == "captioning":
        label = caption(rng)
        prediction = label if rng.random() < 0.2 else caption(rng)
    elif component.task == "detection":
        labels = component.vocabulary
        several = rng.sample(labels, min(len(labels), rng.choice((1, 1, 1, 2, 3))))
        label = "None" if rng.random() < 0.5 else ", ".join(several)
        prediction = label if rng.random() < 0.6 else ", ".join(rng.sample(labels, 1))
    else:
        label = rng.choice(component.labels)
        prediction = label if rng.random() < 0.6 else rng.choice(component.labels)
    if rng.random() < 0.33:
        prediction = misspell(prediction, rng)
    name = f"{component.name}-{number:05d}"
    return {
        "prediction": prediction,
        "label": label,
        "dataset_name": component.name,
        "id": name,
        "recording": f"{component.name}-{number // 3}",
    }


def write(path: Path) -> None:
    rng = random.Random(0)
    with path.open("w", encoding="utf-8") as file:
        for component in beans_zero_components().values():
            for number in range(component.rows):
                file.write(json.dumps(row(component, number, rng)) + "\n")


def main() -> None:
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else tempfile.mkdtemp())
    path = folder / "predictions.jsonl"
    if not path.exists():
        write(path)
    for name, settings in {
        "official": ScoreSettings("official"),
        "corrected, no intervals": ScoreSettings("corrected", 0),
        "corrected, 1000 draws": ScoreSettings("corrected"),
        "both, 1000 draws": ScoreSettings("both"),
    }.items():
        start, cpu = time.perf_counter(), time.process_time()
        evaluation = evaluate_file(path, settings)
        print(
            f"{name}: {len(evaluation.file.rows)} rows in {time.perf_counter() - start:.1f} s "
            f"({time.process_time() - cpu:.1f} s of CPU)"
        )


if __name__ == "__main__":
    main()
