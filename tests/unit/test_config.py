"""Published files load, overrides win, and what is wrong is named in the user's words."""

import json
import logging
from pathlib import Path

import pytest
import yaml

from NatureLM.config import (
    OBSOLETE,
    Generation,
    checkpoint_of,
    read_config,
    read_hub_config,
    validated,
    write_config,
)
from NatureLM.config.records import ModelConfig
from NatureLM.errors import ConfigError
from NatureLM.models.encoders.beats import BEATsShape

SHIPPED = Path(__file__).parents[2] / "NatureLM" / "recipes" / "inference.yml"
GOLDEN = Path(__file__).parents[1] / "golden" / "model"

TRAINING = """
run:
  wandb_enabled: false
  amp: true
  seed: 13
  output_dir: out
  evaluate: false
  log_freq: 5
  epoch_based: false
  iters_per_epoch: 10000
  accum_grad_iters: 1
  batch_size_train: 8
  batch_size_eval: 32
  num_workers: 8
  optims: {max_epoch: 200, warmup_steps: 5000, warmup_start_lr: 0, init_lr: 9e-5, min_lr: 1e-5, weight_decay: 0.05, beta2: 0.999, max_grad_norm: 2, max_grad_value: 1.0}
  augmentations: {use_augmentation: true, noise_prob: 0.4, noise_dirs: [a, b], low_snr: -10, high_snr: 25, mixup_prob: 0.45, mixup_count: 2}
datasets: {train_ann_path: a.jsonl, valid_ann_path: b.JSONL, test_ann_path: c.jsonl, audio_max_length_seconds: 10}
"""


@pytest.fixture
def training(tmp_path: Path) -> Path:
    path = tmp_path / "train_stage1.yml"
    path.write_text(SHIPPED.read_text() + TRAINING)
    return path


def test_the_shipped_file_says_what_the_published_one_does() -> None:
    config = read_config(SHIPPED)
    assert (config.model.lora_rank, config.model.lora_alpha) == (32, 32)
    assert config.run is None
    assert config.datasets is None
    assert config.generate is not None
    assert config.generate.generation() == Generation(max_new_tokens=300, num_beams=2)
    assert config.model.span_frames == config.model.stride_frames == 17


def test_span_frames_are_counted_at_fifty_a_second() -> None:
    assert ModelConfig(llama_path="x", second_per_window=0.2).span_frames == 10


def test_the_encoder_defaults_are_said_once_in_effect() -> None:
    assert BEATsShape.of(read_config(SHIPPED).model.beats_cfg.model_dump()) == BEATsShape()


def test_training_sections_load_and_numbers_without_a_dot_are_numbers(training: Path) -> None:
    config = read_config(training)
    assert config.run is not None
    assert config.datasets is not None
    assert config.run.optims.init_lr == 9e-5
    assert config.run.augmentations.noise_dirs == ["a", "b"]
    assert config.run.decode_ratio == 1.0


def test_obsolete_keys_of_the_published_training_files_warn(
    training: Path, caplog: pytest.LogCaptureFixture
) -> None:
    values = yaml.safe_load(training.read_text())
    values["model"] |= {"multi_prompt": True, "prompt_path": "p.json", "test_prompt_path": ""}
    values["run"] |= {"resume_epoch": 0, "resume_optimizer": False}
    values["run"]["augmentations"] |= dict.fromkeys(("bandmask", "revecho", "timescale", "flip"), 0)
    training.write_text(yaml.safe_dump(values))
    with caplog.at_level(logging.WARNING):
        read_config(training)
    assert len(caplog.records) == 9
    assert all(str(training) in record.getMessage() for record in caplog.records)


def test_no_obsolete_key_is_a_known_one() -> None:
    assert not OBSOLETE & set(ModelConfig.model_fields)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("model.lora_rnak=8", "unknown key 'model.lora_rnak'; did you mean 'lora_rank'?"),
        (
            "model.beats_cfg.encoder_layer=3",
            "'model.beats_cfg.encoder_layer'; did you mean 'encoder_layers'",
        ),
        ("generate.beams=2", "unknown key 'generate.beams'; did you mean 'num_beams'"),
        ("modle.lora=1", "unknown key 'modle'; did you mean 'model'"),
        ("generate.zzz=2", "known are do_sample, length_penalty"),
        ("model.lora_rank=lots", "model.lora_rank is 'lots'"),
        ("model.lora_rank=2.5", "model.lora_rank is 2.5"),
        ("model.flash_attn=fast", "model.flash_attn is 'fast'"),
        ("generate=null", "no generate"),
        ("datasets.train_ann_path=a.csv", "ends in .jsonl"),
        ("run=7", "run is 7"),
        ("nothing", "write section.key=value"),
        ("model.lora={", "not well formed"),
    ],
)
def test_what_is_wrong_is_named(training: Path, override: str, message: str) -> None:
    if message == "no generate":
        assert read_config(training, [override]).generate is None
        return
    with pytest.raises(ConfigError) as caught:
        read_config(training, [override])
    assert message in str(caught.value)


def test_overrides_win_nest_and_merge() -> None:
    overrides = [
        'generate={"num_beams": 7}',
        "model.beats_cfg.encoder_layers=3",
        "model.lora=False",
        "model.ckpt=null",
        "--generate.max_new_tokens=60",
        "model.beats_path=",
    ]
    config = read_config(SHIPPED, overrides)
    assert config.generate is not None
    assert (config.generate.num_beams, config.generate.max_new_tokens) == (7, 60)
    assert config.model.beats_cfg.encoder_layers == 3
    assert config.model.beats_cfg.encoder_embed_dim == 768
    assert not config.model.lora
    assert config.model.ckpt is None
    assert config.model.beats_path is None


def test_the_environment_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = read_config(SHIPPED)
    for name in ("RUN", "MODEL", "GENERATE", "DATASETS", "run"):
        monkeypatch.setenv(name, "1")
    assert read_config(SHIPPED) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "holds NoneType"),
        ("- 1", "holds list"),
        ("model: [", "not well formed"),
        ("model: 3", "model is 3"),
        ("generate: {}", "the key 'model' is missing"),
        ("model: {beats_cfg: {}}", "the key 'model.llama_path' is missing"),
        ("model: {llama_path: a}\nmodel: {llama_path: b}", "given twice"),
        ("model: !!python/object/apply:os.system ['true']", "not well formed"),
    ],
)
def test_a_damaged_file_is_refused(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "x.yml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=r"x\.yml") as caught:
        read_config(path)
    assert message in str(caught.value)


def test_a_missing_or_binary_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        read_config(tmp_path / "absent.yml")
    (tmp_path / "b.yml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="cannot be read"):
        read_config(tmp_path / "b.yml")


def test_saving_reads_back_and_never_overwrites(training: Path, tmp_path: Path) -> None:
    config = read_config(training)
    write_config(config, tmp_path / "saved.yml")
    assert read_config(tmp_path / "saved.yml") == config
    with pytest.raises(ConfigError, match="exists"):
        write_config(config, tmp_path / "saved.yml")


def test_the_hub_file_takes_every_scalar_as_optional(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "config.json"
    path.write_text(json.dumps({"llama_path": "llama", "beats_cfg": {}}))
    config = read_hub_config(path)
    assert (config.lora_rank, config.lora_alpha, config.max_txt_len) == (8, 32, 128)
    assert config.end_sym == "</s>"
    path.write_text(json.dumps({"llama_path": "llama", "beats_cfg": {}, "lora_rnk": 1}))
    with caplog.at_level(logging.WARNING):
        read_hub_config(path)
    assert "lora_rank" in caplog.text
    for missing in ("llama_path", "beats_cfg"):
        values = {"llama_path": "llama", "beats_cfg": {}}
        del values[missing]
        path.write_text(json.dumps(values))
        with pytest.raises(ConfigError, match=missing):
            read_hub_config(path)


def test_both_golden_files_say_the_same_model() -> None:
    hub = read_hub_config(GOLDEN / "config.json")
    published = read_config(GOLDEN / "inference.yml").model
    same = hub.model_copy(update={"audio_encoding_cache_size": 0})
    assert published.model_copy(update={"audio_encoding_cache_size": 0}) == same


def test_a_finished_record_does_not_change() -> None:
    config = read_config(SHIPPED)
    with pytest.raises(ValueError, match="frozen"):
        config.model.lora = False  # type: ignore[misc]


@pytest.mark.parametrize(
    "wrong",
    [
        {"max_new_tokens": 0},
        {"num_beams": 0},
        {"temperature": 0.0},
        {"temperature": float("nan")},
        {"top_p": 1.5},
        {"repetition_penalty": -1.0},
    ],
)
def test_generation_refuses_what_makes_no_sense(wrong: dict) -> None:
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        Generation(**wrong)


def test_temperature_counts_only_when_sampling() -> None:
    config = read_config(SHIPPED, ["generate.temperature=0"])
    assert config.generate is not None
    assert config.generate.generation().temperature == 1.0
    sampling = read_config(SHIPPED, ["generate.do_sample=true"]).generate
    assert sampling is not None
    assert sampling.generation().temperature == 0.1


def test_a_file_says_which_checkpoint_it_means() -> None:
    published = read_config(SHIPPED).model
    assert checkpoint_of(published, SHIPPED) == (
        "EarthSpeciesProject/NatureLM-audio",
        {"llama_path": "meta-llama/Meta-Llama-3.1-8B-Instruct"},
    )
    golden = GOLDEN / "inference.yml"
    name, options = checkpoint_of(read_config(golden).model, golden, ["lora_alpha", "device"])
    assert name == str(GOLDEN)
    assert options == {"llama_path": str(GOLDEN / "llama"), "lora_alpha": 8}
    elsewhere = read_config(golden, ["model.ckpt=/x/y"]).model
    assert checkpoint_of(elsewhere, golden)[0] == "/x/y"


def test_validated_names_where() -> None:
    with pytest.raises(ConfigError, match="here: the key 'llama_path' is missing"):
        validated(ModelConfig, {}, "here")
