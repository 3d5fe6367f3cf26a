"""Finding a checkpoint: folders first, then the hub, and a plain word for each way that can fail."""

from pathlib import Path

import httpx
import pytest
from huggingface_hub import errors

from NatureLM.errors import CheckpointError, DownloadError
from NatureLM.models import hub
from NatureLM.models.hub import Lookup, locate


def test_a_folder_or_a_file_in_it_is_taken_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").touch()
    assert locate(tmp_path).folder == tmp_path
    assert locate(tmp_path / "model.safetensors").folder == tmp_path
    assert locate(str(tmp_path)).revision == ""


def test_what_is_neither_folder_nor_hub_name(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no such folder"):
        locate(tmp_path / "gone")


def test_every_wish_reaches_the_hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked: dict = {}

    def fetch(name: str, **options: object) -> str:
        asked.update(options, name=name)
        return str(tmp_path / "abc123")

    monkeypatch.setattr(hub, "snapshot_download", fetch)
    place = locate("owner/model", Lookup("v1", "secret", tmp_path, True, False))
    assert (place.revision, place.name) == ("abc123", "owner/model")
    assert asked.pop("allow_patterns") == list(hub.CHECKPOINT_FILES)
    assert asked == {
        "name": "owner/model",
        "revision": "v1",
        "token": "secret",
        "cache_dir": tmp_path,
        "local_files_only": True,
        "force_download": False,
    }


def answer(kind: type[errors.HfHubHTTPError]) -> errors.HfHubHTTPError:
    request = httpx.Request("GET", "https://example.org")
    return kind("no", response=httpx.Response(404, request=request))


@pytest.mark.parametrize(
    ("fault", "kind", "match"),
    [
        (answer(errors.GatedRepoError), CheckpointError, "agreement"),
        (answer(errors.RevisionNotFoundError), CheckpointError, "no revision 'v9'"),
        (answer(errors.RepositoryNotFoundError), CheckpointError, "no such repository"),
        (errors.LocalEntryNotFoundError("x"), CheckpointError, "not in the local cache"),
        (answer(errors.HfHubHTTPError), DownloadError, "could not be fetched"),
        (OSError("disk full"), DownloadError, "disk full"),
    ],
)
def test_every_fault_is_told_apart(
    monkeypatch: pytest.MonkeyPatch, fault: Exception, kind: type, match: str
) -> None:
    def fetch(*_: object, **__: object) -> str:
        raise fault

    monkeypatch.setattr(hub, "snapshot_download", fetch)
    with pytest.raises(kind, match=match):
        locate("owner/model", Lookup(revision="v9"))


def test_offline_with_an_empty_cache_says_so(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(CheckpointError, match="not in the local cache"):
        locate("owner/model", Lookup(cache_dir=tmp_path))
    with pytest.raises(CheckpointError, match="not in the local cache"):
        locate("owner/model", Lookup(cache_dir=tmp_path, local_files_only=True))
