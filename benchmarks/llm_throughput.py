"""Answers a second of the LLM and windows a second of the encoder on one device, beside what the device can do.

Weights are random and of the real size (Llama-3.1-8B, BEATs); prompts are embeddings of the card's question's length. The floor is the arithmetic of the same
work at the matrix rate measured in the same run.

    python benchmarks/llm_throughput.py --output benchmarks/results/llm_throughput.json
    python benchmarks/llm_throughput.py --scale small --device cpu          # a rehearsal
"""

from __future__ import annotations

import argparse
import json
import platform
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM

from NatureLM.models.encoders.beats import BEATs, BEATsShape
from NatureLM.models.llama import Llama
from NatureLM.models.slots import SlotDecoder, SlotPrompt, SlotSettings

SIZES = {
    "real": {
        "hidden_size": 4096,
        "intermediate_size": 14336,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "vocab_size": 128257,
    },
    "small": {
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "vocab_size": 512,
    },
}
PROMPT_TOKENS = 62


def main() -> None:
    """Measure, print and write."""
    args = arguments()
    device = torch.device(args.device)
    dtype = torch.bfloat16 if device.type == "cuda" else torch.float32
    report: dict[str, object] = {"device": args.device, "scale": args.scale}
    if device.type == "cuda":
        report["gpu"] = torch.cuda.get_device_name()
    report["versions"] = {"python": platform.python_version(), "torch": torch.__version__}
    rate = matrix_rate(device, dtype, 8192 if device.type == "cuda" else 512)
    report["matrix_tflops"] = rate / 1e12
    report |= language(args, device, dtype, rate)
    report["encoder_windows_per_s"] = encoder(args, device, dtype)
    text = json.dumps(report, indent=2)
    print(text)
    if args.output:
        args.output.parent.mkdir(parents=True, exist_ok=True)
        args.output.write_text(text + "\n", encoding="utf-8")


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scale", choices=tuple(SIZES), default="real")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--slots", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=4, help="batches of slots in a measurement")
    parser.add_argument("--output", type=Path, help="JSON file for the result")
    return parser.parse_args()


def seconds_of(work: Callable[[], object], device: torch.device, repeats: int = 5) -> float:
    """Time a piece of work, median of several, warmed up."""
    times = []
    for number in range(repeats + 2):
        if device.type == "cuda":
            torch.cuda.synchronize()
        started = time.perf_counter()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize()
        if number >= 2:
            times.append(time.perf_counter() - started)
    return sorted(times)[len(times) // 2]


def matrix_rate(device: torch.device, dtype: torch.dtype, size: int) -> float:
    """Measure operations a second of a large product of random matrices."""
    a, b = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
    return 2 * size**3 / seconds_of(lambda: a @ b, device)


@torch.inference_mode()
def language(
    args: argparse.Namespace, device: torch.device, dtype: torch.dtype, rate: float
) -> dict[str, object]:
    """Measure answers a second for short and longer answers."""
    config = LlamaConfig(**SIZES[args.scale], tie_word_embeddings=False)
    with torch.device("meta"):
        llm = LlamaForCausalLM(config)
    llm = llm.to(dtype).to_empty(device=device).eval()
    for parameter in llm.parameters():
        nn.init.normal_(parameter, std=0.02) if parameter.ndim > 1 else nn.init.ones_(parameter)
    llm.model.rotary_emb = type(llm.model.rotary_emb)(config).to(device)
    llama = Llama(llm)
    work = sum(p.numel() for p in llm.parameters()) - llm.model.embed_tokens.weight.numel()
    body = work - llm.lm_head.weight.numel()
    del llm
    width = config.hidden_size
    count = args.slots * args.rounds
    prompts = [
        SlotPrompt(torch.randn(PROMPT_TOKENS, width, device=device, dtype=dtype) * 0.02)
        for _ in range(count)
    ]
    batch = torch.stack([p.embeds for p in prompts[: args.slots]])
    cache = llama.cache(args.slots, 128)
    lengths = torch.full((args.slots,), PROMPT_TOKENS, device=device)
    prefill = seconds_of(lambda: llama.prefill(batch, cache, lengths), device, 3)
    report: dict[str, object] = {
        "slots": args.slots,
        "prompt_tokens": PROMPT_TOKENS,
        "prefill_windows_per_s": args.slots / prefill,
        "prefill_share_of_matrix_rate": 2 * body * PROMPT_TOKENS * args.slots / prefill / rate,
    }
    del cache, batch
    for new in (8, 30):
        settings = SlotSettings((config.vocab_size + 7,), (), new, args.slots, look_every=8)
        decoder = SlotDecoder(llama, settings)

        def run(decoder: SlotDecoder = decoder) -> int:
            return sum(1 for _ in decoder.answers(prompts, PROMPT_TOKENS))

        seconds = seconds_of(run, device, 1)
        floor = 2 * (body * (PROMPT_TOKENS + new - 1) + (work - body) * new) * count / rate
        report[f"answers_per_s_{new}_tokens"] = count / seconds
        report[f"share_of_floor_{new}_tokens"] = floor / seconds
    if device.type == "cuda":
        report["peak_gpu_gb"] = torch.cuda.max_memory_allocated() / 1e9
    return report


@torch.inference_mode()
def encoder(args: argparse.Namespace, device: torch.device, dtype: torch.dtype) -> float:
    """Measure 10 s windows a second through BEATs, compiled on CUDA."""
    small = BEATsShape(encoder_layers=2, encoder_embed_dim=96, embed_dim=32, conv_pos_groups=4)
    beats = BEATs(BEATsShape() if args.scale == "real" else small).to(device, dtype).eval()
    count = 256 if device.type == "cuda" else 2
    waveforms = torch.randn(count, 160_000, device=device) * 0.1
    lengths = torch.full((count,), 160_000, device=device)
    if device.type == "cuda":
        beats.encoder.compile()
    return count / seconds_of(lambda: beats(waveforms, lengths), device, 3)


if __name__ == "__main__":
    main()
