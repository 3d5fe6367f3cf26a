"""How fast a checkpoint of the real size loads, and how much host memory that takes.

Writes random weights of the published sizes (Llama-3.1-8B in bfloat16, sharded, and a checkpoint in published form) and loads
them in a fresh process, cold (the page cache dropped) and warm, beside a plain read of the same files by as many threads.

    python benchmarks/load_8b.py --folder /tmp/load_8b --device cuda --output benchmarks/results/load_8b.json
    python benchmarks/load_8b.py --folder /tmp/load_small --scale small      # a rehearsal, seconds
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch
from torch import Tensor

SIZES = {
    "real": {"hidden": 4096, "inner": 14336, "layers": 32, "heads": 32, "kv": 8, "vocab": 128256},
    "small": {"hidden": 512, "inner": 1792, "layers": 8, "heads": 8, "kv": 2, "vocab": 32000},
}
SPECIAL = (
    "<|begin_of_text|>",
    "<|end_of_text|>",
    "<|start_header_id|>",
    "<|end_header_id|>",
    "<|eom_id|>",
    "<|eot_id|>",
)


def main() -> None:
    """Make the files, measure, print and write the result."""
    args = arguments()
    if args.child:
        print(json.dumps(load_once(args) if args.child == "load" else read_once(args.folder)))
        return
    folder: Path = args.folder
    if not (folder / "checkpoint" / "model.safetensors").is_file():
        started = time.perf_counter()
        make(folder, SIZES[args.scale])
        print(f"written in {time.perf_counter() - started:.0f} s", file=sys.stderr)
    report = measure(args)
    text = json.dumps(report, indent=2)
    print(text)
    if args.output:
        args.output.parent.mkdir(parents=True, exist_ok=True)
        args.output.write_text(text + "\n", encoding="utf-8")
    if not args.keep:
        shutil.rmtree(folder)


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, required=True, help="where the weights are written")
    parser.add_argument("--scale", choices=tuple(SIZES), default="real")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--output", type=Path, help="JSON file for the result")
    parser.add_argument("--keep", action="store_true", help="leave the weights where they are")
    parser.add_argument("--child", choices=("load", "read"), help=argparse.SUPPRESS)
    return parser.parse_args()


def measure(args: argparse.Namespace) -> dict[str, object]:
    """Read and load, each in a process of its own, cold and warm."""
    files = sorted(args.folder.rglob("*.safetensors"))
    weights = sum(f.stat().st_size for f in files)
    report: dict[str, object] = {
        "weights_gb": weights / 1e9,
        "scale": args.scale,
        "device": args.device,
    }
    for warmth in ("cold", "warm"):
        for task in ("read", "load"):
            if warmth == "cold":
                evict(files)
            result = in_child(args, task)
            result["gb_per_s"] = weights / 1e9 / result["seconds"]
            if task == "load":
                grown = result["peak_host_gb"] - result["before_host_gb"]
                result["peak_host_over_weights"] = grown / (weights / 1e9)
                result["peak_host_with_interpreter_over_weights"] = result["peak_host_gb"] / (
                    weights / 1e9
                )
            report[f"{task}_{warmth}"] = result
    report["versions"] = {"python": platform.python_version(), "torch": torch.__version__}
    report["cpu_count"] = os.cpu_count()
    if args.device.startswith("cuda"):
        report["gpu"] = torch.cuda.get_device_name()
    return report


def in_child(args: argparse.Namespace, task: str) -> dict[str, float]:
    """Run one task in a fresh interpreter, so that its peak memory is its own."""
    command = [sys.executable, __file__, "--folder", str(args.folder), "--device", args.device]
    done = subprocess.run([*command, "--child", task], check=True, capture_output=True, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def load_once(args: argparse.Namespace) -> dict[str, float]:
    """Load the model and say how long it took and how much host memory the process has held."""
    from NatureLM.models import NatureLM

    if args.device.startswith("cuda"):
        torch.zeros(1, device=args.device)  # the driver's own memory is no part of the load
    before = host_gb("VmRSS")
    started = time.perf_counter()
    model = NatureLM.from_pretrained(args.folder / "checkpoint", device=args.device)
    if args.device.startswith("cuda"):
        torch.cuda.synchronize()
    seconds = time.perf_counter() - started
    held = sum(p.numel() * p.element_size() for p in model.parameters())
    return {
        "seconds": seconds,
        "before_host_gb": before,
        "peak_host_gb": host_gb("VmHWM"),
        "parameters_gb": held / 1e9,
    }


def read_once(folder: Path) -> dict[str, float]:
    """Read the same files with as many threads, to nowhere."""
    from NatureLM.models.weight_file import PIECE_BYTES, READERS

    pieces = [
        (path, offset)
        for path in sorted(folder.rglob("*.safetensors"))
        for offset in range(0, path.stat().st_size, PIECE_BYTES)
    ]

    def read(piece: tuple[Path, int]) -> int:
        with piece[0].open("rb", buffering=0) as file:
            file.seek(piece[1])
            return len(file.read(PIECE_BYTES))

    started = time.perf_counter()
    with ThreadPoolExecutor(READERS) as pool:
        total = sum(pool.map(read, pieces))
    return {"seconds": time.perf_counter() - started, "bytes": total}


def host_gb(what: str) -> float:
    """Read this process's memory: ``VmRSS`` now, ``VmHWM`` at most so far."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    line = next(line for line in lines if line.startswith(f"{what}:"))
    return int(line.split()[1]) * 1024 / 1e9


def evict(files: list[Path]) -> None:
    """Drop files from the page cache, so that they are read from the disk."""
    for path in files:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(descriptor)


def make(folder: Path, size: dict[str, int]) -> None:
    """Write a base LLM and a checkpoint in published form, all of it random."""
    base = folder / "checkpoint" / "llama"
    base.mkdir(parents=True)
    write_tokenizer(base, size["vocab"])
    from transformers import LlamaConfig

    config = LlamaConfig(
        hidden_size=size["hidden"],
        intermediate_size=size["inner"],
        num_hidden_layers=size["layers"],
        num_attention_heads=size["heads"],
        num_key_value_heads=size["kv"],
        vocab_size=size["vocab"],
        rms_norm_eps=1e-5,
        bos_token_id=size["vocab"] - 6,
        eos_token_id=[size["vocab"] - 5, size["vocab"] - 2, size["vocab"] - 1],
        tie_word_embeddings=False,
        dtype=torch.bfloat16,
    )
    config.save_pretrained(base)
    write_weights(folder / "checkpoint", base)


def write_tokenizer(folder: Path, vocabulary: int) -> None:
    """Write a word-level tokenizer of the right size; what it says is of no interest here."""
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    words = {f"w{i}": i for i in range(vocabulary - len(SPECIAL))}
    words |= {name: len(words) + i for i, name in enumerate(SPECIAL)}
    bare = Tokenizer(models.WordLevel(words, unk_token="w0"))
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=bare, bos_token=SPECIAL[0], eos_token=SPECIAL[-1]
    )
    tokenizer.save_pretrained(folder)


def write_weights(folder: Path, base: Path) -> None:
    """Draw every tensor of the model once and sort it into base and checkpoint."""
    from NatureLM.config import BEATsConfig, ModelConfig
    from NatureLM.models.build import empty_model
    from NatureLM.models.keymap import EMBEDDING, logical_name, published_of
    from NatureLM.models.weight_write import Promise, write_file, write_shards

    config = ModelConfig(llama_path="llama", beats_cfg=BEATsConfig(), lora_rank=32, lora_alpha=32)
    (folder / "config.json").write_text(json.dumps(config.model_dump()), encoding="utf-8")
    plain: dict[str, Promise] = {}
    checkpoint: dict[str, Promise] = {}
    for name, tensor in empty_model(config, base).state_dict().items():
        published, bare = published_of(name), logical_name(name).removeprefix("llm.")
        shape = tuple(tensor.shape)
        of_llm = name.startswith("llm.")
        if published == EMBEDDING or not of_llm or ".lora_" in name:
            dtype = torch.bfloat16 if of_llm else torch.float32
            checkpoint[published] = Promise(dtype, shape, drawn(shape, dtype))
        if of_llm and ".lora_" not in name:
            rows = (
                shape[0] - 1
                if bare in ("lm_head.weight", "model.embed_tokens.weight")
                else shape[0]
            )
            smaller = (rows, *shape[1:])
            plain[bare] = Promise(torch.bfloat16, smaller, drawn(smaller, torch.bfloat16))
    write_shards(base, plain)
    write_file(folder / "model.safetensors", checkpoint)


def drawn(shape: tuple[int, ...], dtype: torch.dtype) -> Callable[[], Tensor]:
    """Make a function that draws a tensor, on a GPU where there is one."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    return lambda: (torch.randn(shape, device=device, dtype=torch.float32) * 0.02).to(dtype).cpu()


if __name__ == "__main__":
    main()
