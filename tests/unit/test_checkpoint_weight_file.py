"""Reading safetensors: what safetensors writes comes back, what is damaged is refused."""

import hashlib
import json
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from NatureLM.errors import CheckpointError
from NatureLM.models import weight_file
from NatureLM.models.weight_file import DTYPES, check_hash, open_weights, read_into, read_tensor


@pytest.fixture
def tensors() -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    return {
        "a": torch.randn(3, 5),
        "b": torch.randn(7, 2).bfloat16(),
        "c": torch.arange(4),
        "scalar": torch.tensor(3.5, dtype=torch.float64),
        "empty": torch.zeros(0, 4),
        "flags": torch.tensor([True, False]),
    }


@pytest.fixture
def file(tmp_path: Path, tensors: dict) -> Path:
    save_file(tensors, tmp_path / "w.safetensors", metadata={"note": "x"})
    return tmp_path / "w.safetensors"


def test_every_tensor_comes_back_in_its_dtype(file: Path, tensors: dict) -> None:
    found = open_weights(file)
    assert found.metadata == {"note": "x"}
    assert set(found.entries) == set(tensors)
    for name, entry in found.entries.items():
        assert entry.dtype == tensors[name].dtype
        assert torch.equal(read_tensor(entry), tensors[name])


def test_reading_into_a_larger_table_of_another_dtype(file: Path, tensors: dict) -> None:
    table = torch.full((4, 5), 9.0, dtype=torch.bfloat16)
    read_into([(open_weights(file).entries["a"], table[:3])])
    assert torch.equal(table[:3], tensors["a"].bfloat16())
    assert (table[3] == 9).all()


def test_reading_in_many_pieces(file: Path, tensors: dict, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weight_file, "PIECE_BYTES", 8)
    assert torch.equal(read_tensor(open_weights(file).entries["a"]), tensors["a"])
    double = torch.empty(3, 5, dtype=torch.float64)
    read_into([(open_weights(file).entries["a"], double)], readers=2)
    assert torch.equal(double, tensors["a"].double())


def test_shards_read_as_one(tmp_path: Path, tensors: dict) -> None:
    names = list(tensors)
    shards = {"s1.safetensors": names[:2], "s2.safetensors": names[2:]}
    for shard, held in shards.items():
        save_file({k: tensors[k] for k in held}, tmp_path / shard)
    where = {k: shard for shard, held in shards.items() for k in held}
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": where}))
    assert set(open_weights(index).entries) == set(tensors)
    index.write_text(json.dumps({"weight_map": {**where, "ghost": "s1.safetensors"}}))
    with pytest.raises(CheckpointError, match="lack ghost"):
        open_weights(index)
    index.write_text(json.dumps({}))
    with pytest.raises(CheckpointError, match="weight_map"):
        open_weights(index)


@pytest.mark.parametrize("keep", [0, 5, 40, -1])
def test_a_file_cut_short_is_refused(file: Path, keep: int) -> None:
    file.write_bytes(file.read_bytes()[:keep])
    with pytest.raises(CheckpointError, match=r"cut short|no JSON"):
        open_weights(file)


def test_bytes_behind_the_weights_are_refused(file: Path) -> None:
    file.write_bytes(file.read_bytes() + b"\0")
    with pytest.raises(CheckpointError, match="cut short or damaged"):
        open_weights(file)


def rewrite(path: Path, change: dict) -> None:
    raw = path.read_bytes()
    length = int.from_bytes(raw[:8], "little")
    header = json.loads(raw[8 : 8 + length]) | change
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + raw[8 + length :])


@pytest.mark.parametrize(
    ("entry", "match"),
    [
        ({"dtype": "F32", "shape": [3, 5], "data_offsets": [4, 64]}, "wrong offsets for"),
        ({"dtype": "F32", "shape": [3, 4], "data_offsets": [0, 60]}, "wrong offsets for"),
        ({"dtype": "F8_E4M3", "shape": [3, 5], "data_offsets": [0, 60]}, "F8_E4M3"),
        ({"dtype": "F32", "shape": [3, 5]}, "entry for a is not valid"),
        ("nonsense", "entry for a is not valid"),
    ],
)
def test_wrong_entries_are_refused(file: Path, entry: object, match: str) -> None:
    rewrite(file, {"a": entry})
    with pytest.raises(CheckpointError, match=match):
        open_weights(file)


def test_a_name_twice_is_refused(tmp_path: Path) -> None:
    text = b'{"a":{},"a":{}}'
    (tmp_path / "x.safetensors").write_bytes(len(text).to_bytes(8, "little") + text)
    with pytest.raises(CheckpointError, match="twice"):
        open_weights(tmp_path / "x.safetensors")


def test_a_missing_file_says_so(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"gone\.safetensors: cannot be read"):
        open_weights(tmp_path / "gone.safetensors")


def test_the_hash_is_compared(file: Path) -> None:
    check_hash(file, hashlib.sha256(file.read_bytes()).hexdigest())
    with pytest.raises(CheckpointError, match="do not use this one"):
        check_hash(file, "0" * 64)


@settings(max_examples=25, deadline=None)
@given(
    st.dictionaries(
        st.text("abcxyz.", min_size=1, max_size=5),
        st.tuples(
            st.sampled_from(sorted(DTYPES)), st.lists(st.integers(0, 4), min_size=0, max_size=3)
        ),
        min_size=1,
        max_size=4,
    )
)
def test_whatever_is_written_reads_back(
    tmp_path_factory: pytest.TempPathFactory, wanted: dict
) -> None:
    tensors = {k: torch.randint(0, 2, s).to(DTYPES[d]) for k, (d, s) in wanted.items()}
    path = tmp_path_factory.mktemp("w") / "w.safetensors"
    save_file(tensors, path)
    for name, entry in open_weights(path).entries.items():
        assert torch.equal(read_tensor(entry), tensors[name])
