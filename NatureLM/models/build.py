"""The assembly line: a configuration becomes parts, parts become a NatureLM. The only place that chooses sizes, paths or devices.

Knows where parts come from; computes nothing. The surprise: a published model is built on torch's ``meta`` device, without memory, and
filled from its files afterwards, so that no weight is drawn at random only to be overwritten.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

from NatureLM.config import ModelConfig
from NatureLM.errors import ConfigError
from NatureLM.models import lora
from NatureLM.models.encoders import find_encoder
from NatureLM.models.encoders.beats.shape import BEATsShape
from NatureLM.models.llm import LLMS, empty_llm, load_tokenizer
from NatureLM.models.model import NatureLM, Parts
from NatureLM.models.qformer import QFormer, QFormerShape
from NatureLM.prompts import template_of

POCKET = "pocket"
FAMILY = "llama3"
"""The published model's LLM family."""


def load(name: str | Path, **options: Any) -> NatureLM:
    """Load a model by name: ``pocket``, a hub id or a folder.

    Args:
        name: Which model.
        **options: See ``NatureLM.from_pretrained``.
    """
    if name == POCKET:
        from NatureLM.models.pocket import build_pocket

        return build_pocket(**options)
    from NatureLM.models.checkpoint import load as load_checkpoint

    return load_checkpoint(name, **options)


def empty_model(
    config: ModelConfig, llama_folder: Path, *, qformer: QFormerShape | None = None
) -> NatureLM:
    """Build the published architecture without weights.

    Args:
        config: Its configuration.
        llama_folder: Folder of the base LLM: its configuration and tokenizer.
        qformer: Sizes of a Q-Former other than BERT-base's.

    Raises:
        ConfigError: The configuration asks for what was never published.
    """
    _refuse_unpublished(config)
    row = LLMS[FAMILY]
    tokenizer = load_tokenizer(llama_folder, adds_pad=row.adds_pad)
    llm = empty_llm(llama_folder, len(tokenizer), torch.float32)
    width = llm.get_input_embeddings().weight.shape[1]
    shape = qformer or qformer_shape(config)
    with torch.device("meta"):
        if config.lora:
            sizes = (config.lora_rank, config.lora_alpha, config.lora_dropout)
            llm = lora.attach(llm, lora.LoRAShape(*sizes, row.lora_targets))
        encoder = find_encoder("beats")(BEATsShape.of(config.beats_cfg.model_dump()))
        parts = Parts(
            encoder,
            nn.LayerNorm(encoder.width),
            QFormer(shape),
            nn.Linear(shape.width, width),
            llm,
            tokenizer,
            template_of(config.prompt_template, row.template),
        )
    return freeze(NatureLM(parts, config), config)


def qformer_shape(config: ModelConfig) -> QFormerShape:
    """Derive the Q-Former's sizes: BERT-base with two layers, spans counted at 50 frames a second."""
    return QFormerShape(
        frame_width=config.beats_cfg.encoder_embed_dim,
        queries=config.num_audio_query_token,
        span_frames=config.span_frames,
        stride_frames=config.stride_frames,
    )


def freeze(model: NatureLM, config: ModelConfig) -> NatureLM:
    """Let train what the configuration says: the adapter always, the base LLM never."""
    for name, parameter in model.llm.named_parameters():
        parameter.requires_grad_("lora_" in name)
    model.encoder.requires_grad_(not config.freeze_beats)
    model.qformer.requires_grad_(not config.freeze_audio_QFormer)
    model.projector.requires_grad_(not config.freeze_audio_llama_proj)
    return model


def _refuse_unpublished(config: ModelConfig) -> None:
    if config.max_pooling or not config.use_audio_Qformer or not config.window_level_Qformer:
        raise ConfigError(
            "max_pooling: true, use_audio_Qformer: false and window_level_Qformer: false never worked in the published "
            "code and no checkpoint has them; leave these keys at their defaults."
        )
