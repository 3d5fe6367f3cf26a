"""From a plan to a filled model: memory is taken once, where the weights will stay, and the disk is read into it.

Knows modules that were built without memory (on torch's ``meta`` device) and a plan of reads. The one surprise: buffers that
no file holds, such as a rotary embedding's frequencies, have no memory either after such a build and are computed anew.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

from NatureLM.errors import CheckpointError
from NatureLM.models.weight_file import Entry, read_into
from NatureLM.models.weight_plan import Read, Shape


def shapes_of(model: nn.Module) -> dict[str, Shape]:
    """List what a model needs: its own names and shapes."""
    return {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}


def fill(
    model: nn.Module,
    reads: Sequence[Read],
    device: torch.device | str = "cpu",
    llm_dtype: torch.dtype | None = None,
) -> None:
    """Fill a model that was built on ``meta``.

    Args:
        model: Its tensors are replaced; which of them train stays as it is.
        reads: One for every tensor of the model.
        device: Where the tensors go.
        llm_dtype: Dtype of the LLM and its LoRA; all else, and all when left out, keeps the file's.

    Raises:
        CheckpointError: When a file ends early, or something is left without memory.
    """
    tensors = {read.ours: _memory_for(read, model, device, llm_dtype) for read in reads}
    read_into(list(_targets(reads, tensors)))
    model.load_state_dict(tensors, strict=True, assign=True)
    revive_buffers(model, device)


def revive_buffers(model: nn.Module, device: torch.device | str) -> None:
    """Compute buffers that are in no file and got no memory, by building their module once more.

    Raises:
        CheckpointError: When a module cannot be built from its configuration alone.
    """
    for name, module in model.named_modules():
        lost = [k for k, b in module.named_buffers(recurse=False) if b.is_meta]
        if not lost:
            continue
        config = getattr(module, "config", None)
        if config is None:
            raise CheckpointError(f"{name}: its buffers {', '.join(lost)} are in no file.")
        fresh = dict(type(module)(config).named_buffers(recurse=False))
        for key in lost:
            setattr(module, key, fresh[key].to(device))


def _memory_for(
    read: Read, model: nn.Module, device: torch.device | str, llm_dtype: torch.dtype | None
) -> Tensor:
    dtype = read.entry.dtype
    if llm_dtype is not None and read.ours.startswith("llm.") and dtype.is_floating_point:
        dtype = llm_dtype
    shape = read.entry.shape
    if read.rows is not None:
        shape = (_rows_of(model, read.ours), *shape[1:])
    memory = torch.empty(shape, dtype=dtype, device=device)
    if read.rows is not None:
        memory[read.rows :] = 0
    return memory


def _rows_of(model: nn.Module, name: str) -> int:
    owner, _, leaf = name.rpartition(".")
    return int(getattr(model.get_submodule(owner), leaf).shape[0])


def _targets(reads: Iterable[Read], tensors: dict[str, Tensor]) -> Iterable[tuple[Entry, Tensor]]:
    for read in reads:
        memory = tensors[read.ours]
        yield read.entry, memory if read.rows is None else memory[: read.rows]
