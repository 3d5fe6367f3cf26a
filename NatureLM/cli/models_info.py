"""naturelm models info: what a model is made of, which of it is here, under which licences, and what it needs."""

from __future__ import annotations

import argparse
import json
from typing import Any

from NatureLM.cli.fetching import megabytes
from NatureLM.models import catalog, parts


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the subcommand takes."""
    parser.epilog = "example: naturelm models info pocket"
    parser.add_argument("name", metavar="NAME", help=f"{' or '.join(catalog.MODELS)}")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of text")


def run(args: argparse.Namespace) -> int:
    """Print one model."""
    entry = catalog.entry_named(args.name)
    pieces = _parts() if not entry.repositories else _repositories(entry)
    facts: dict[str, Any] = {
        "name": entry.name,
        "source": entry.source,
        "summary": entry.summary,
        "revision": catalog.revision(entry.name),
        "size_bytes": entry.size_bytes,
        "licence": entry.licence,
        "needs": entry.needs,
        "missing": list(catalog.missing(entry.name)),
        "parts": pieces,
    }
    if args.json:
        print(json.dumps(facts, indent=2))
        return 0
    print(f"{entry.name}: {entry.summary}")
    for label, text in (
        ("loads as", f'NatureLM.from_pretrained("{entry.source}")'),
        ("revision", facts["revision"] or "none here"),
        ("size", megabytes(entry.size_bytes)),
        ("licence", entry.licence),
        ("needs", entry.needs),
        ("here", "complete" if not facts["missing"] else f"lacks {', '.join(facts['missing'])}"),
    ):
        print(f"  {label:9} {text}")
    print("  parts")
    for piece in pieces:
        print(f"    {piece['state']:8} {piece['text']}")
    if any(piece["state"] == "missing" for piece in pieces if piece["name"] != "bridge"):
        print(f"  To fetch what is lacking: naturelm models pull {entry.name}")
    return 0


def _parts() -> list[dict[str, Any]]:
    revision = catalog.bridge_revision()
    size = "absent from this package"
    if revision:
        size = megabytes(sum(path.stat().st_size for path in catalog.BRIDGE))
    rows: list[dict[str, Any]] = []
    for name in parts.POCKET:
        part, path = parts.part_named(name), parts.cached(name)
        rows.append(
            {
                "name": name,
                "state": "here" if path else "missing",
                "path": str(path) if path else None,
                "size_bytes": part.member.size_bytes,
                "sha256": part.member.sha256,
                "licence": part.licence,
                "wheel": part.wheel.filename,
                "wheel_sha256": part.wheel.sha256,
                "text": f"{part.what}, {megabytes(part.member.size_bytes)}, {part.licence}, from {part.wheel.filename}",
            }
        )
    text = f"bridge: Q-Former, projector, LoRA trained by this project, {size}, CC BY-NC-SA 4.0"
    state, folder = "here" if revision else "missing", str(catalog.BRIDGE[0].parent)
    return [*rows, {"name": "bridge", "state": state, "path": folder, "text": text}]


def _repositories(entry: catalog.ModelEntry) -> list[dict[str, Any]]:
    lacking = catalog.missing(entry.name)
    return [
        {"name": repo, "state": "missing" if repo in lacking else "here", "text": repo}
        for repo, _ in entry.repositories
    ]
