"""All published forms load to equal models; what is saved reads back equal; nothing is silently random."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from NatureLM.config import Generation
from NatureLM.errors import CheckpointError, ConfigError
from NatureLM.models import NatureLM, lora
from NatureLM.models.checkpoint import save
from NatureLM.models.convert import BEATS_METADATA, convert
from NatureLM.models.encoders.beats.file import load_beats
from NatureLM.models.weight_file import open_weights

GOLDEN = Path(__file__).parents[1] / "golden" / "model"
BIAS = "beats.encoder.layers.{}.self_attn.relative_attention_bias.weight"
EMBEDDING = "llama_model.base_model.model.model.embed_tokens.weight"
QUERY = "What is the common name for the focal species in the audio?"


@pytest.fixture(scope="module")
def stored() -> dict[str, torch.Tensor]:
    return load_file(GOLDEN / "model.safetensors")


@pytest.fixture(scope="module")
def reference() -> NatureLM:
    return NatureLM.from_pretrained(GOLDEN)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A checkpoint folder without weights, its base LLM beside the configuration."""
    made = tmp_path / "model"
    made.mkdir()
    config = json.loads((GOLDEN / "config.json").read_text())
    (made / "config.json").write_text(json.dumps(config | {"qformer_heads": 4}))
    shutil.copytree(GOLDEN / "llama", made / "llama")
    return made


def equal(a: NatureLM, b: NatureLM) -> bool:
    x, y = a.state_dict(), b.state_dict()
    return x.keys() == y.keys() and all(
        torch.equal(x[k], y[k]) and x[k].dtype == y[k].dtype for k in x
    )


def with_aliases(stored: dict) -> dict:
    return stored | {
        BIAS.format(1): stored[BIAS.format(0)].clone(),
        EMBEDDING: stored["llama_embed_tokens.weight"].clone(),
    }


def without_canonical(stored: dict) -> dict:
    every = with_aliases(stored)
    return {
        k: v for k, v in every.items() if k not in (BIAS.format(0), "llama_embed_tokens.weight")
    }


def without_wrapping(stored: dict) -> dict:
    return {
        k.replace("llama_model.base_model.model.", "llama_model.").replace(".base_layer.", "."): v
        for k, v in stored.items()
    }


def without_base(stored: dict) -> dict:
    head = "llama_model.base_model.model.lm_head.weight"
    return {
        k: v
        for k, v in stored.items()
        if not k.startswith("llama_model.") or "lora_" in k or k == head
    }


@pytest.mark.parametrize(
    "form", [dict, with_aliases, without_canonical, without_wrapping, without_base]
)
def test_every_form_of_the_names_gives_an_equal_model(
    folder: Path, stored: dict, reference: NatureLM, form: object
) -> None:
    save_file(form(stored), folder / "model.safetensors")
    assert equal(NatureLM.from_pretrained(folder), reference)


def test_the_recorded_published_form_gives_an_equal_model(
    folder: Path, reference: NatureLM
) -> None:
    shutil.copy(GOLDEN / "model_published_form.safetensors", folder / "model.safetensors")
    assert equal(NatureLM.from_pretrained(folder), reference)


def test_a_converted_training_checkpoint_with_its_encoder_apart(
    tmp_path: Path, stored: dict, reference: NatureLM
) -> None:
    bare = {k.removeprefix("beats."): v for k, v in stored.items() if k.startswith("beats.")}
    cfg = json.loads((GOLDEN / "config.json").read_text())["beats_cfg"]
    save_file(bare, tmp_path / "b.safetensors", metadata={BEATS_METADATA: json.dumps(cfg)})
    kept = {k: v for k, v in without_base(stored).items() if not k.startswith("beats.")}
    kept[BIAS.format(1)] = stored[BIAS.format(0)]
    torch.save({"model": kept, "epoch": 3}, tmp_path / "checkpoint_best.pth")
    out = convert(tmp_path / "checkpoint_best.pth", tmp_path / "out", GOLDEN / "config.json")
    llama = GOLDEN / "llama"
    with pytest.raises(CheckpointError, match="frozen encoder: pass beats_path"):
        NatureLM.from_pretrained(out, llama_path=llama, qformer_heads=4)
    found = NatureLM.from_pretrained(
        out, llama_path=llama, beats_path=tmp_path / "b.safetensors", qformer_heads=4
    )
    assert equal(found, reference)


def test_a_training_checkpoint_with_the_recorded_names(
    tmp_path: Path, stored: dict, reference: NatureLM
) -> None:
    golden = json.loads((GOLDEN / "expected" / "golden.json").read_text())
    names = golden["info"]["trainable_only_keys"]
    assert BIAS.format(1) in names
    kept = {k: with_aliases(stored)[k] for k in names}
    torch.save({"model": kept, "config": {"model": {}}, "epoch": 3}, tmp_path / "checkpoint_3.pth")
    out = convert(tmp_path / "checkpoint_3.pth", tmp_path / "out", GOLDEN / "config.json")
    found = NatureLM.from_pretrained(out, llama_path=GOLDEN / "llama", qformer_heads=4)
    theirs, ours = reference.state_dict(), found.state_dict()
    differing = [k for k in theirs if not torch.equal(theirs[k], ours[k])]
    assert differing == ["llm.base_model.model.lm_head.weight"]  # whose [PAD] row it does not hold
    assert torch.equal(theirs[differing[0]][:-1], ours[differing[0]][:-1])


def test_saving_writes_the_hub_form_and_reads_back_equal(
    tmp_path: Path, reference: NatureLM
) -> None:
    reference.save_pretrained(tmp_path / "out")
    theirs, ours = (open_weights(f / "model.safetensors") for f in (GOLDEN, tmp_path / "out"))
    assert ours.metadata == theirs.metadata
    assert {k: (e.dtype, e.shape) for k, e in ours.entries.items()} == {
        k: (e.dtype, e.shape) for k, e in theirs.entries.items()
    }
    found = NatureLM.from_pretrained(tmp_path / "out")
    assert equal(found, reference)
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    golden = json.loads((GOLDEN / "config.json").read_text())
    assert {k: config[k] for k in golden} == golden
    with pytest.raises(CheckpointError, match="choose a new name"):
        reference.save_pretrained(tmp_path / "out")


def test_saving_without_the_llm_is_the_published_form(tmp_path: Path, reference: NatureLM) -> None:
    save(reference, tmp_path / "out", include_llm=False)
    names = open_weights(tmp_path / "out" / "model.safetensors").entries
    assert not [k for k in names if k.startswith("llama_model.") and "lora_" not in k]
    with pytest.raises(CheckpointError, match=r"Llama base missing: pass llama_path"):
        NatureLM.from_pretrained(tmp_path / "out", llama_path="llama")
    found = NatureLM.from_pretrained(tmp_path / "out", llama_path=GOLDEN / "llama")
    head = lora.plain(found.llm).lm_head.weight
    assert (head[-1] == 0).all()
    assert torch.equal(head[:-1], lora.plain(reference.llm).lm_head.weight[:-1])


def test_dtypes_stay_and_the_llm_takes_the_one_asked_for(
    folder: Path, stored: dict, tmp_path: Path
) -> None:
    half = {k: v.bfloat16() if "lora_" in k or "embed" in k else v for k, v in stored.items()}
    save_file(without_base(half), folder / "model.safetensors")
    kept = NatureLM.from_pretrained(folder).state_dict()
    assert {v.dtype for k, v in kept.items() if "lora_" in k} == {torch.bfloat16}
    assert kept["llm.base_model.model.model.norm.weight"].dtype == torch.float32
    asked = NatureLM.from_pretrained(folder, dtype="bfloat16")
    dtypes = {k.startswith("llm."): v.dtype for k, v in asked.state_dict().items()}
    assert dtypes == {True: torch.bfloat16, False: torch.float32}
    assert asked.dtype == torch.bfloat16
    asked.save_pretrained(tmp_path / "out")
    assert equal(NatureLM.from_pretrained(tmp_path / "out"), asked)


def test_pad_is_never_said(folder: Path, stored: dict) -> None:
    head = "llama_model.base_model.model.lm_head.weight"
    loud = stored[head].clone()
    loud[-1] = loud[:-1].mean(0) * 100
    loud[-1] += 5 * loud[:-1].std()
    save_file(
        stored | {head: loud, "ln_audio.weight": stored["ln_audio.weight"]},
        folder / "model.safetensors",
    )
    model = NatureLM.from_pretrained(folder)
    pad = model.tokenizer.convert_tokens_to_ids("[PAD]")
    assert pad == loud.shape[0] - 1
    tokens = model.encode(torch.rand(1, 16000) - 0.5, torch.tensor([16000]))
    for beams in (1, 2):
        answer = model.answer(tokens, [QUERY], Generation(max_new_tokens=20, num_beams=beams))[0]
        assert pad not in answer.token_ids


def test_alpha_is_of_the_call_and_several_run_side_by_side(reference: NatureLM) -> None:
    tokens = reference.encode(torch.rand(1, 16000) - 0.5, torch.tensor([16000]))
    short = Generation(max_new_tokens=8)
    first = {a: reference.answer(tokens, [QUERY], short, merging_alpha=a) for a in (1.0, 0.5, 0.0)}
    again = {a: reference.answer(tokens, [QUERY], short, merging_alpha=a) for a in (0.0, 1.0, 0.5)}
    assert first == again
    assert len({str(v) for v in first.values()}) > 1


def test_overrides_win_and_unknown_ones_are_named(folder: Path, stored: dict) -> None:
    save_file(stored, folder / "model.safetensors")
    model = NatureLM.from_pretrained(folder, max_txt_len=7, beats_cfg={"encoder_layerdrop": 0.0})
    assert model.config.max_txt_len == model.limits.max_txt_len == 7
    assert model.config.beats_cfg.encoder_layers == 2
    assert model.encoder.shape.encoder_layerdrop == 0.0
    with pytest.raises(ConfigError, match="did you mean 'revision'"):
        NatureLM.from_pretrained(folder, revison="v1")
    with pytest.raises(CheckpointError, match="rank 4 while lora_rank is 8: pass lora_rank=4"):
        NatureLM.from_pretrained(folder, lora_rank=8)
    with pytest.raises(CheckpointError, match="pass lora=True"):
        NatureLM.from_pretrained(folder, lora=False)


def test_a_model_without_lora(folder: Path, stored: dict) -> None:
    plain = {k: v for k, v in without_wrapping(stored).items() if "lora_" not in k}
    save_file(plain, folder / "model.safetensors")
    with pytest.raises(CheckpointError, match="pass lora=False"):
        NatureLM.from_pretrained(folder)
    model = NatureLM.from_pretrained(folder, lora=False)
    names = {k.split(".", 1)[0] for k in model.state_dict()}
    assert names == {"encoder", "frame_norm", "qformer", "projector", "llm"}


def test_pickles_are_sent_to_convert(tmp_path: Path, folder: Path) -> None:
    with pytest.raises(CheckpointError, match=r"naturelm models convert x/checkpoint_3.pth"):
        NatureLM.from_pretrained("x/checkpoint_3.pth")
    (folder / "pytorch_model.bin").touch()
    with pytest.raises(CheckpointError, match=r"naturelm models convert .*pytorch_model.bin"):
        NatureLM.from_pretrained(folder)
    (tmp_path / "model_config.yaml").touch()
    with pytest.raises(CheckpointError, match="folder form"):
        NatureLM.from_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match=r"naturelm models convert BEATs.pt"):
        load_beats("BEATs.pt")


def test_what_is_missing_is_said(tmp_path: Path, folder: Path, stored: dict) -> None:
    with pytest.raises(CheckpointError, match=r"no model\.safetensors"):
        NatureLM.from_pretrained(folder)
    save_file(stored, folder / "model.safetensors")
    shutil.rmtree(folder / "llama")
    with pytest.raises(CheckpointError, match="Llama base missing"):
        NatureLM.from_pretrained(folder)
    (tmp_path / "empty").mkdir()
    with pytest.raises(CheckpointError, match="no LLM"):
        NatureLM.from_pretrained(folder, llama_path=tmp_path / "empty")
    with pytest.raises(CheckpointError, match=r"no config\.json"):
        NatureLM.from_pretrained(tmp_path / "empty")


def test_damage_is_refused(folder: Path, stored: dict) -> None:
    path = folder / "model.safetensors"
    save_file(stored, path)
    with pytest.raises(CheckpointError, match="sha256"):
        NatureLM.from_pretrained(folder, sha256="0" * 64)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(CheckpointError, match="cut short"):
        NatureLM.from_pretrained(folder)


def test_an_encoder_by_itself(tmp_path: Path, stored: dict, reference: NatureLM) -> None:
    bare = {k.removeprefix("beats."): v for k, v in stored.items() if k.startswith("beats.")}
    cfg = json.loads((GOLDEN / "config.json").read_text())["beats_cfg"]
    path = tmp_path / "beats.safetensors"
    save_file(bare, path, metadata={BEATS_METADATA: json.dumps(cfg)})
    encoder = load_beats(tmp_path)
    x, n = torch.rand(1, 16000) - 0.5, torch.tensor([16000])
    with torch.no_grad():
        torch.testing.assert_close(encoder(x, n)[0], reference.encoder(x, n)[0])
    assert load_beats(path, sample_rate=32000).sample_rate == 32000
    save_file(bare, path, metadata={BEATS_METADATA: json.dumps(cfg | {"encoder_layers": 3})})
    with pytest.raises(CheckpointError, match="do not fit its configuration"):
        load_beats(path)
    save_file(bare, path)
    with pytest.raises(CheckpointError, match="no BEATs configuration"):
        load_beats(path)


def test_parity_hears_padding_and_the_default_does_not(reference: NatureLM) -> None:
    published = NatureLM.from_pretrained(GOLDEN, parity="published")
    x = torch.zeros(2, 32000)
    x[0], x[1, :12000] = torch.rand(32000) - 0.5, torch.rand(12000) - 0.5
    lengths = torch.tensor([32000, 12000])
    assert reference.encode(x, lengths).counts.tolist() == [5, 1]
    assert published.encode(x, lengths).counts.tolist() == [5, 5]
