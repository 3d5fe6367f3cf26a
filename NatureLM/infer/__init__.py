"""Inference: recordings and questions in, answers per window out."""

from NatureLM.infer.device import choose_device, choose_model
from NatureLM.infer.pipeline import Pipeline, PipelineSettings

__all__ = ["Pipeline", "PipelineSettings", "choose_device", "choose_model"]
