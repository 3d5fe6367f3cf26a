"""Where a checkpoint lies: a folder on this machine, or a repository of the Hugging Face hub, cached.

Knows names, revisions and the hub's ways to fail; opens no weights. The one surprise: with ``HF_HUB_OFFLINE=1`` or
``local_files_only`` nothing is asked of the network, and what is not cached is an error that says so.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import snapshot_download
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    LocalEntryNotFoundError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from NatureLM.errors import CheckpointError, DownloadError

CHECKPOINT_FILES = ("config.json", "model*.safetensors*", "llama/*.json", "*.md")
LLM_FILES = ("*.json", "*.safetensors", "tokenizer*", "*.model")
_HUB_NAME = re.compile(r"[\w.-]+/[\w.-]+")


@dataclass(frozen=True)
class Lookup:
    """How the hub is asked.

    Attributes:
        revision: Branch, tag or commit; ``None`` for the newest.
        token: Access token; ``None`` for the one that is logged in.
        cache_dir: Folder of the cache; ``None`` for the hub's own.
        local_files_only: Ask nothing of the network.
        force_download: Fetch again what is cached.
    """

    revision: str | None = None
    token: str | None = None
    cache_dir: str | Path | None = None
    local_files_only: bool = False
    force_download: bool = False


@dataclass(frozen=True)
class Place:
    """A folder with a checkpoint.

    Attributes:
        folder: Where it lies.
        name: What the user called it.
        revision: Commit, when it came from the hub.
    """

    folder: Path
    name: str
    revision: str = ""


def locate(
    name: str | Path, lookup: Lookup | None = None, files: Sequence[str] = CHECKPOINT_FILES
) -> Place:
    """Find a folder, fetching it from the hub when it is no path of this machine.

    Args:
        name: A folder, a file in it, or a hub name such as ``EarthSpeciesProject/NatureLM-audio``.
        lookup: How the hub is asked.
        files: Patterns of the files that are wanted.

    Raises:
        CheckpointError: When there is no such folder or repository, or it is not cached and may not be fetched.
        DownloadError: When fetching failed.
    """
    path = Path(name).expanduser()
    if path.exists():
        return Place(path if path.is_dir() else path.parent, str(name))
    if not _HUB_NAME.fullmatch(str(name)):
        raise CheckpointError(
            f"{name}: there is no such folder, and it is no hub name (owner/name)."
        )
    folder = Path(_fetch(str(name), lookup or Lookup(), files))
    return Place(folder, str(name), folder.name)


def _fetch(name: str, lookup: Lookup, files: Sequence[str]) -> str:
    try:
        found: str = snapshot_download(
            name,
            revision=lookup.revision,
            token=lookup.token,
            cache_dir=lookup.cache_dir,
            local_files_only=lookup.local_files_only,
            force_download=lookup.force_download,
            allow_patterns=list(files),
        )
    except GatedRepoError as error:
        raise CheckpointError(
            f"{name}: its owner asks for an agreement first. Accept it at https://huggingface.co/{name} and pass token=, or run `hf auth login`."
        ) from error
    except RevisionNotFoundError as error:
        raise CheckpointError(f"{name}: has no revision {lookup.revision!r}.") from error
    except RepositoryNotFoundError as error:
        raise CheckpointError(
            f"{name}: there is no such folder here and no such repository on the hub, or it is private: check the name, or pass token=."
        ) from error
    except LocalEntryNotFoundError as error:
        raise CheckpointError(
            f"{name}: is not in the local cache, and the hub was not to be asked or could not be reached. Run `hf download {name}` where there is a network, or pass the folder."
        ) from error
    except (HfHubHTTPError, OSError) as error:
        raise DownloadError(f"{name}: could not be fetched ({error}).") from error
    return found
