"""naturelm models list: every model that is known by name, and whether it can be used here and now."""

from __future__ import annotations

import argparse
import json
from typing import Any

from NatureLM.cli.fetching import megabytes
from NatureLM.models import catalog


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the subcommand takes."""
    parser.add_argument("--json", action="store_true", help="print a JSON list instead of a table")


def run(args: argparse.Namespace) -> int:
    """Print the models."""
    rows = [_row(entry) for entry in catalog.MODELS.values()]
    if args.json:
        print(json.dumps(rows, indent=2))
        return 0
    name = max(len(row["name"]) for row in rows)
    for row in rows:
        size = megabytes(row["size_bytes"])
        print(f"{row['name']:{name}}  {size:>8}  {_state(row)}")
        print(f"{'':{name}}  {'':8}  {row['summary']}; {row['licence']}")
    return 0


def _row(entry: catalog.ModelEntry) -> dict[str, Any]:
    return {
        "name": entry.name,
        "source": entry.source,
        "summary": entry.summary,
        "size_bytes": entry.size_bytes,
        "licence": entry.licence,
        "revision": catalog.revision(entry.name),
        "missing": list(catalog.missing(entry.name)),
    }


def _state(row: dict[str, Any]) -> str:
    if not row["missing"]:
        return f"here, revision {row['revision']}"
    if set(row["missing"]) <= {path.name for path in catalog.BRIDGE}:
        return f"lacks {', '.join(row['missing'])}, which come with the package"
    return f"not here: naturelm models pull {row['name']}"
