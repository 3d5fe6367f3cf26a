"""naturelm models: what models there are, what of them is here, and getting or checking them.

Knows the command line and the table of actions; an action that is more than a few lines is a module of its own. The surprise: parts of the
pocket model can be pulled by their own names too, the demo's recording among them.
"""

from __future__ import annotations

import argparse
import importlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from NatureLM.models.catalog import CatalogModel

ACTIONS: dict[str, tuple[str, str]] = {
    "verify": ("NatureLM.cli.models_verify", "recompute the reference's recorded numbers"),
    "convert": ("NatureLM.cli.models_convert", "turn a pickled checkpoint into safetensors"),
    "merge": ("NatureLM.cli.models_merge", "fold the adapter into the base language model"),
}
"""Action -> (module, one line of help), besides list, pull and info."""

_OWN = {
    "list": "what models there are and what of them is here",
    "pull": "fetch a model",
    "info": "parts, licences, limits and whereabouts of a model",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the actions."""
    parser.epilog = "example: naturelm models pull pocket"
    actions = parser.add_subparsers(dest="action", metavar="ACTION", title="actions", required=True)
    made = {
        name: actions.add_parser(name, help=text, description=text) for name, text in _OWN.items()
    }
    for name in ("list", "info"):
        made[name].add_argument("--json", action="store_true", help="print JSON")
    for name in ("pull", "info"):
        made[name].add_argument("name", metavar="NAME", help="pocket, NatureLM-audio or a hub name")
    made["pull"].add_argument(
        "--from",
        dest="folder",
        type=Path,
        metavar="FOLDER",
        help="take the pocket model's wheels or files from this folder; no network",
    )
    for name, (module, text) in ACTIONS.items():
        action = actions.add_parser(name, help=text, description=text)
        importlib.import_module(module).add_arguments(action)


def run(args: argparse.Namespace) -> int:
    """Do one action and return its exit code."""
    if args.action in ACTIONS:
        code: int = importlib.import_module(ACTIONS[args.action][0]).run(args)
        return code
    return {"list": _list, "pull": _pull, "info": _info}[args.action](args)


def _list(args: argparse.Namespace) -> int:
    from NatureLM.models.catalog import MODELS

    rows = [_row(model) for model in MODELS.values()]
    if args.json:
        print(json.dumps(rows, indent=2))
        return 0
    _print_table(
        ("model", "here", "to fetch", "revision", "what"),
        [
            (
                row["name"],
                row["state"],
                _size(row["size_bytes"]),
                row["revision"] or "-",
                row["summary"],
            )
            for row in rows
        ],
    )
    return 0


def _pull(args: argparse.Namespace) -> int:
    from NatureLM.cli.fetching import pull, say
    from NatureLM.models.catalog import model_named
    from NatureLM.models.parts import PARTS, cache_folder, cached

    model = model_named(args.name)
    if model is not None and model.parts:
        pull(model.parts, args.folder)
        say(f"{model.name} is ready in {cache_folder()}; licence: {model.licence}")
        return 0
    if args.name in PARTS:
        pull((args.name,), args.folder)
        print(cached(args.name))
        return 0
    return _pull_from_hub(args, model)


def _pull_from_hub(args: argparse.Namespace, model: CatalogModel | None) -> int:
    from NatureLM.cli.fetching import megabytes, say
    from NatureLM.errors import ConfigError
    from NatureLM.models.hub import CHECKPOINT_FILES, LLM_FILES, locate

    if args.folder is not None:
        raise ConfigError(
            f"--from is for the pocket model; {args.name} is loaded from a folder as it is"
        )
    for repository in model.repositories if model else ():
        size = megabytes(repository.size_bytes)
        say(f"{repository.name}: about {size}, {repository.licence} ({repository.what})")
    if model is None:
        print(locate(args.name).folder)
        return 0
    for repository in model.repositories:
        own = repository.name == model.loads
        print(locate(repository.name, files=CHECKPOINT_FILES if own else LLM_FILES).folder)
    return 0


def _info(args: argparse.Namespace) -> int:
    from NatureLM.errors import CheckpointError
    from NatureLM.models.catalog import MODELS, model_named

    model = model_named(args.name)
    if model is None:
        raise CheckpointError(f"no model is called {args.name!r}; known are {', '.join(MODELS)}.")
    facts = _row(model) | {
        "needs": model.needs,
        "limits": list(model.limits),
        "parts": _parts(model),
    }
    if args.json:
        print(json.dumps(facts, indent=2))
        return 0
    print(f"{model.name}: {model.summary}")
    for label in ("revision", "state", "licence", "needs"):
        print(f"  {label:9} {facts[label] or '-'}")
    print(f"  {'to fetch':9} {_size(model.size_bytes)}")
    print(f"  {'in Python':9} NatureLM.from_pretrained({model.loads!r})")
    print("\nParts:")
    for part in _parts(model):
        here = "here" if part["here"] == "yes" else "not here"
        print(f"  {part['part']:16} {part['size']:>8}  {here:8}  {part['what']}")
        print(f"  {'':16} {'':>8}  {'':8}  {part['from']}; {part['licence']}")
    print("\nWhat it cannot do:")
    for limit in model.limits:
        print(f"  - {limit}")
    return 0


def _row(model: CatalogModel) -> dict[str, Any]:
    from NatureLM.models.catalog import revision_of, state_of

    return {
        "name": model.name,
        "loads": model.loads,
        "state": state_of(model),
        "revision": revision_of(model),
        "size_bytes": model.size_bytes,
        "licence": model.licence,
        "summary": model.summary,
    }


def _parts(model: CatalogModel) -> list[dict[str, str]]:
    """List what a model is made of, the bridge that is shipped included."""
    from NatureLM.models.catalog import bridge_files, is_cached
    from NatureLM.models.parts import PARTS, cached

    rows = []
    for part in (PARTS[name] for name in model.parts):
        size, source = part.member.size_bytes, part.wheel.filename
        path = cached(part.name)
        rows.append(_part(part.name, size, path is not None, part.licence, (source, part.what)))
        rows[-1] |= {"path": str(path or ""), "sha256": part.member.sha256}
    for path in bridge_files() if model.parts else ():
        what = ("this package", "trained by this project")
        rows.append(_part(path.stem, path.stat().st_size, True, model.licence, what))
        rows[-1] |= {"path": str(path)}
    for repository in model.repositories:
        what = ("model hub", repository.what)
        here = is_cached(repository)
        rows.append(_part(repository.name, repository.size_bytes, here, repository.licence, what))
    return rows


def _part(name: str, size: int, here: bool, licence: str, what: tuple[str, str]) -> dict[str, str]:
    state = "yes" if here else "no"
    row = {"part": name, "size": _size(size), "here": state, "licence": licence}
    return row | {"from": what[0], "what": what[1]}


def _size(size_bytes: int) -> str:
    from NatureLM.cli.fetching import megabytes

    return megabytes(size_bytes)


def _print_table(titles: tuple[str, ...], rows: list[tuple[str, ...]]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for title in titles:
        narrow = title in ("part", "model", "size", "to fetch", "here", "revision")
        table.add_column(title, justify="right" if "size" in title else "left", no_wrap=narrow)
    for row in rows:
        table.add_row(*row)
    Console(soft_wrap=False).print(table)
