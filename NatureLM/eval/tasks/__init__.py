"""The benchmarks: a literal table, one file each."""

from __future__ import annotations

TASKS: dict[str, str] = {
    "beans-zero": "NatureLM.eval.tasks.beans_zero:BeansZero",
    "recordings": "NatureLM.eval.tasks.recordings:Recordings",
}
"""Name -> class that implements `NatureLM.eval.task.Task`."""
