"""A miniature BEANS-Zero in the published layout: all 22 components, a few rows each, synthetic sound at varying rates."""

from __future__ import annotations

import json
import uuid
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.ipc
import pyarrow.parquet as pq

from NatureLM.prompts import AUDIO_TAG
from NatureLM.scoring.vocabulary import beans_zero_components

RATES_HZ = {"watkins": 44_100, "esc50": 44_100, "hiceas": 22_050, "gibbons": 9_600, "rfcx": 48_000}
QUESTION = "What is the common name for the focal species in the audio?"
SCHEMA = pa.schema(
    [
        ("source_dataset", pa.string()),
        ("audio", pa.list_(pa.float32())),
        ("id", pa.string()),
        ("created_at", pa.string()),
        ("metadata", pa.string()),
        ("file_name", pa.string()),
        ("instruction", pa.string()),
        ("instruction_text", pa.string()),
        ("output", pa.string()),
        ("task", pa.string()),
        ("dataset_name", pa.string()),
        ("license", pa.string()),
    ]
)


def rows(
    each: int = 2, seconds: float = 1.0, components: tuple[str, ...] = ()
) -> list[dict[str, Any]]:
    """Make ``each`` rows of every component; lengths vary a little."""
    return [
        _row(name, component, i, seconds)
        for name, component in beans_zero_components().items()
        for i in range(each if not components or name in components else 0)
    ]


def _row(name: str, component: Any, i: int, seconds: float) -> dict[str, Any]:
    rng = np.random.default_rng([i, *name.encode()])
    rate_hz = RATES_HZ.get(name, 16_000)
    samples = (rng.standard_normal(int(rate_hz * (seconds + 0.1 * i))) * 0.1).astype(np.float32)
    labels = component.labels
    output = labels[i % len(labels)] if labels else f"A bird number {i} sings in the rain"
    if component.task == "detection" and i % 3 == 1:
        output = "None"
    question = f"Which of these, if any, are present in the audio: {', '.join(labels)}, None."
    text = question if component.task == "detection" else QUESTION
    return {
        "source_dataset": name.partition("-")[0],
        "audio": samples,
        "id": str(uuid.UUID(bytes=rng.bytes(16))),
        "created_at": "2024-11-01 00:00:00",
        "metadata": json.dumps({"sample_rate": rate_hz, "duration": len(samples) / rate_hz}),
        "file_name": f"{name}_{i // 2}.wav",
        "instruction": AUDIO_TAG + text,
        "instruction_text": text,
        "output": output,
        "task": component.task,
        "dataset_name": name,
        "license": "CC0",
    }


def table(content: list[dict[str, Any]]) -> pa.Table:
    return pa.Table.from_pylist(content, schema=SCHEMA)


def write_parquet(
    folder: Path, content: list[dict[str, Any]], *, shards: int = 2, group: int = 5
) -> Path:
    """Write shards as the hub has them."""
    (folder / "data").mkdir(parents=True)
    size = -(-len(content) // shards)
    for shard in range(shards):
        part = content[shard * size : (shard + 1) * size]
        path = folder / "data" / f"test-{shard:05}-of-{shards:05}.parquet"
        pq.write_table(table(part), path, row_group_size=group)
    return folder


def write_arrow(folder: Path, content: list[dict[str, Any]]) -> Path:
    """Write what ``datasets.save_to_disk`` writes."""
    folder.mkdir(parents=True)
    path = folder / "data-00000-of-00001.arrow"
    whole = table(content)
    with pa.OSFile(str(path), "wb") as sink, pyarrow.ipc.new_stream(sink, SCHEMA) as writer:
        for batch in whole.to_batches(max_chunksize=7):
            writer.write_batch(batch)
    (folder / "state.json").write_text(json.dumps({"_fingerprint": "abc"}))
    return folder


def write_jsonl(folder: Path, content: list[dict[str, Any]]) -> Path:
    """Write the layout with audio files beside the table."""
    import soundfile

    folder.mkdir(parents=True)
    with (folder / "all.jsonl").open("w", encoding="utf-8") as file:
        for row in content:
            rate_hz = json.loads(row["metadata"])["sample_rate"]
            soundfile.write(folder / f"{row['id']}.wav", row["audio"], rate_hz, "FLOAT")
            kept = {k: v for k, v in row.items() if k != "audio"}
            kept["audio_path_original_sample_rate"] = f"{row['id']}.wav"
            file.write(json.dumps(kept) + "\n")
    return folder
