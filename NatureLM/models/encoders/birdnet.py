"""BirdNET V2.4 in torch, read from its published tflite file, and the evidence that the pocket model hears through it.

Knows the file's graph: two spectrograms, an EfficientNet-like trunk, a dense layer of classes (Kahl et al. 2021). Knows no names of classes.
The surprise: the exported spectrogram squares the real part of the Fourier transform, not its magnitude, so both spectrograms are linear
up to the square and are one matrix product each, in float64.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import tflite
import torch
import torch.nn.functional as F  # noqa: N812 - torch's own name for it
from jaxtyping import Float, Int
from torch import Tensor, nn

from NatureLM.errors import CheckpointError
from NatureLM.models.encoders.tflite_graph import Graph, Op

SAMPLE_RATE = 48_000
SEGMENT_S = 3
SEGMENT_SAMPLES = SEGMENT_S * SAMPLE_RATE
EVIDENCE = 5
"""Classes of a segment that become evidence frames."""
SILENT_LOGIT = -15.0
"""What digital silence scores for every class: its spectrogram is 0 ** 0.2, where rounding decides."""
BATCH_SEGMENTS = {"cpu": 4, "cuda": 64, "mps": 16}
"""Segments scored together; on a CPU four stay in the caches, sixteen take a fifth longer each."""
_TRUNK = "model/concatenate/concat"
_SHAPING = ("SHAPE", "STRIDED_SLICE", "PACK", "RESHAPE")
_Step = Callable[[Callable[[str], Tensor], dict[int, Tensor]], Tensor]
"""Given how to look a weight up and the grids so far, compute the next grid; holds no module, so that copies of it are independent."""


class _Spectrogram(nn.Module):
    """Frames -> window -> real part of the transform -> mel -> square -> power, the first three as one matrix.

    The matrix is no buffer, since it stays in float64 whatever the model is cast to; where a device has no float64 (MPS), the CPU helps.
    """

    def __init__(self, graph: Graph, name: str, hop_samples: int) -> None:
        super().__init__()
        window = graph.named(f"{name}/stft/hann_window/sub_2").astype(np.float64)
        mel = graph.named(f"{name}/Tensordot/MatMul").astype(np.float64)
        size, bins = len(window), mel.shape[1]
        turn = np.outer(np.arange(size), np.arange(bins)) % size
        matrix = (window[:, None] * np.cos(2 * np.pi * turn / size)) @ mel.T
        self.matrix = torch.from_numpy(matrix)
        self.size, self.hop = size, hop_samples
        self.power = float(graph.named(f"{name}/truediv_1"))

    def forward(self, x: Float[Tensor, "n samples"]) -> Float[Tensor, "n 1 mel time"]:
        """Compute the spectrogram, highest mel band first."""
        place = torch.device("cpu") if x.device.type == "mps" else x.device
        self.matrix = self.matrix.to(place)
        mel = x.to(place, self.matrix.dtype).unfold(1, self.size, self.hop) @ self.matrix
        grid = mel.square().pow(self.power).flip(2).transpose(1, 2)[:, None]
        return grid.float().to(x.device)


class BirdNET(nn.Module):
    """Score 3 s segments for 6,522 classes.

    Attributes:
        prototypes: The dense layer's rows, (classes, 1024).
        bias: The dense layer's bias, (classes,).
    """

    def __init__(self, path: str | Path) -> None:
        super().__init__()
        graph = Graph(Path(path))
        self.spectrograms = nn.ModuleList(
            [_Spectrogram(graph, "MEL_SPEC1", 278), _Spectrogram(graph, "MEL_SPEC2", 280)]
        )
        start = next(i for i, op in enumerate(graph.ops) if graph.names[op.output] == _TRUNK)
        self._trunk_in, self._trunk_out = graph.ops[start].output, graph.ops[-2].inputs[0]
        self._steps = _with_last_uses(list(self._trunk(graph, start + 1)), self._trunk_out)
        dense = graph.ops[-1]
        weight, bias = graph.weights(dense)
        self.register_buffer("prototypes", torch.from_numpy(weight), persistent=False)
        self.register_buffer("bias", torch.from_numpy(bias), persistent=False)

    def forward(
        self, segments: Float[Tensor, "n samples"]
    ) -> tuple[Float[Tensor, "n classes"], Float[Tensor, "n 1024"], Float[Tensor, "n 6 1024"]]:
        """Score segments.

        Args:
            segments: 144,000 samples each, in [-1, 1] at 48 kHz.

        Returns:
            Logits, embeddings, and the six frames that an embedding is the mean of. Digital silence scores
            ``SILENT_LOGIT`` for every class.
        """
        low, high = segments.amin(1, keepdim=True), segments.amax(1, keepdim=True)
        x = ((segments - low) / (high - low + 1e-6) - 0.5) * 2.0
        prototypes, bias = self.get_buffer("prototypes"), self.get_buffer("bias")
        grid = torch.cat([spectrogram(x) for spectrogram in self.spectrograms], 1)
        grid = grid.to(prototypes.dtype)
        grids = {self._trunk_in: grid.contiguous(memory_format=torch.channels_last)}
        for output, step, done_with in self._steps:
            grids[output] = step(self.get_buffer, grids)
            for grid_number in done_with:
                del grids[grid_number]
        frames = grids[self._trunk_out].mean(2).transpose(1, 2)
        embeddings = frames.mean(1)
        logits = F.linear(embeddings, prototypes, bias)
        return logits.masked_fill(high == low, SILENT_LOGIT), embeddings, frames

    def _trunk(self, graph: Graph, start: int) -> Iterator[tuple[Op, _Step]]:
        """Re-express the operations between the spectrograms and the mean over frames."""
        makers: dict[str, Callable[[Graph, Op], _Step]] = {
            "CONV_2D": self._conv,
            "DEPTHWISE_CONV_2D": self._conv,
            "AVERAGE_POOL_2D": _pool,
            "MAX_POOL_2D": _pool,
            "PAD": _pad,
            "MUL": self._arithmetic,
            "ADD": self._arithmetic,
        }
        same: dict[int, int] = {}
        for raw in graph.ops[start:-2]:
            op = replace(raw, inputs=tuple(same.get(i, i) for i in raw.inputs))
            if op.name in _SHAPING:
                same[op.output] = op.inputs[0]
            else:
                yield op, makers.get(op.name, _plain)(graph, op)

    def _conv(self, graph: Graph, op: Op) -> _Step:
        weight, bias = self._weights(graph, op)
        depthwise = op.name == "DEPTHWISE_CONV_2D"
        options = tflite.DepthwiseConv2DOptions() if depthwise else tflite.Conv2DOptions()
        options.Init(op.options.Bytes, op.options.Pos)
        stride = (options.StrideH(), options.StrideW())
        same = options.Padding() == tflite.Padding.SAME
        relu = options.FusedActivationFunction() == tflite.ActivationFunctionType.RELU
        source = op.inputs[0]

        def conv(stored: Callable[[str], Tensor], grids: dict[int, Tensor]) -> Tensor:
            x, w = grids[source], stored(weight)
            padding = (0, 0)
            if same and w.shape[2:] != (1, 1):
                left, right, top, bottom = _same_padding(x.shape[2:], w.shape[2:], stride)
                padding = (min(top, bottom), min(left, right))
                if (top, left) != (bottom, right):
                    x = F.pad(x, (0, right - left, 0, bottom - top))
            groups = x.shape[1] if depthwise else 1
            out = F.conv2d(x, w, stored(bias), stride, padding, groups=groups)
            return F.relu(out) if relu else out

        return conv

    def _weights(self, graph: Graph, op: Op) -> tuple[str, str]:
        weight, bias = graph.weights(op)
        order = (3, 0, 1, 2) if op.name == "DEPTHWISE_CONV_2D" else (0, 3, 1, 2)
        tensor = torch.from_numpy(weight).permute(order)
        tensor = tensor.contiguous(memory_format=torch.channels_last)
        names = f"weight_{op.output}", f"bias_{op.output}"
        self.register_buffer(names[0], tensor, persistent=False)
        self.register_buffer(names[1], torch.from_numpy(bias), persistent=False)
        return names

    def _arithmetic(self, graph: Graph, op: Op) -> _Step:
        left, right = op.inputs
        options = tflite.MulOptions() if op.name == "MUL" else tflite.AddOptions()
        options.Init(op.options.Bytes, op.options.Pos)
        relu = options.FusedActivationFunction() == tflite.ActivationFunctionType.RELU
        constant, name = graph.constant(right), f"constant_{op.output}"
        if constant is not None:
            grid = torch.from_numpy(constant.copy()).reshape(1, -1, 1, 1)
            self.register_buffer(name, grid, persistent=False)
        combine = torch.mul if op.name == "MUL" else torch.add

        def step(stored: Callable[[str], Tensor], grids: dict[int, Tensor]) -> Tensor:
            other = grids[right] if constant is None else stored(name)
            out = combine(grids[left], other)
            return F.relu(out) if relu else out

        return step


class EvidenceEncoder(nn.Module):
    """Hear a window as evidence: the strongest classes of each of its segments.

    Each frame is a class's normalised prototype, its logit, its probability, the segment's start in seconds and the class's rank.

    Args:
        birdnet: What scores the segments.

    Attributes:
        width: Width of a frame.
        sample_rate: Rate of the waveforms, in Hz.
        frames_per_second: Nominal.
    """

    def __init__(self, birdnet: BirdNET) -> None:
        super().__init__()
        self.birdnet = birdnet
        self.width = birdnet.get_buffer("prototypes").shape[1] + 4
        self.sample_rate = SAMPLE_RATE
        self.frames_per_second = EVIDENCE / SEGMENT_S
        prototypes = F.normalize(birdnet.get_buffer("prototypes"), dim=1)
        self.register_buffer("directions", prototypes, persistent=False)

    def forward(
        self, waveforms: Float[Tensor, "batch samples"], lengths: Int[Tensor, " batch"]
    ) -> tuple[Float[Tensor, "batch frames width"], Int[Tensor, " batch"]]:
        """Turn windows into evidence frames, segment by segment, strongest first.

        Args:
            waveforms: In [-1, 1] at 48 kHz, padded at the end.
            lengths: True samples of each.
        """
        scores, starts = self.evidence(waveforms, lengths)
        rows = [self.frames(s, t) for s, t in zip(scores, starts, strict=True)]
        counts = torch.tensor([len(row) for row in rows], device=waveforms.device)
        return torch.nn.utils.rnn.pad_sequence(rows, batch_first=True), counts

    def evidence(
        self, waveforms: Float[Tensor, "batch samples"], lengths: Int[Tensor, " batch"]
    ) -> tuple[list[Float[Tensor, "_ classes"]], list[Float[Tensor, " _"]]]:
        """Score every segment of every window.

        Returns:
            For each window the logits of its segments and their starts in seconds.
        """
        plans = [segment_starts(n) for n in lengths.tolist()]
        cut = [
            _segment(row, start, n)
            for row, n, plan in zip(waveforms, lengths.tolist(), plans, strict=True)
            for start in plan
        ]
        size = BATCH_SEGMENTS.get(waveforms.device.type, 16)
        batches = [torch.stack(cut[i : i + size]) for i in range(0, len(cut), size)]
        logits = torch.cat([self.birdnet(batch)[0] for batch in batches])
        starts = [torch.tensor(p, device=logits.device) / SAMPLE_RATE for p in plans]
        return list(logits.split([len(plan) for plan in plans])), starts

    def frames(
        self, logits: Float[Tensor, "segments classes"], starts: Float[Tensor, " segments"]
    ) -> Float[Tensor, "frames width"]:
        """Turn the logits of a window's segments into its evidence frames."""
        top, classes = logits.topk(EVIDENCE, dim=1)
        rank = torch.arange(EVIDENCE, device=logits.device, dtype=top.dtype).expand_as(top)
        start = starts.to(top.dtype)[:, None].expand_as(top)
        numbers = torch.stack([top, top.sigmoid(), start, rank], dim=-1)
        return torch.cat([self.get_buffer("directions")[classes], numbers], dim=-1).flatten(0, 1)


def _with_last_uses(
    steps: Sequence[tuple[Op, _Step]], kept: int
) -> list[tuple[int, _Step, tuple[int, ...]]]:
    """Add to each step the grids that nobody reads after it."""
    made = {op.output for op, _ in steps}
    last = {number: i for i, (op, _) in enumerate(steps) for number in op.inputs if number in made}
    return [
        (op.output, step, tuple(n for n, use in last.items() if use == i and n != kept))
        for i, (op, step) in enumerate(steps)
    ]


def segment_starts(samples: int) -> list[int]:
    """Plan the segments of a window: back to back, and one that ends with the window where a remainder is left."""
    starts = list(range(0, samples - SEGMENT_SAMPLES + 1, SEGMENT_SAMPLES)) or [0]
    if starts[-1] + SEGMENT_SAMPLES < samples:
        starts.append(samples - SEGMENT_SAMPLES)
    return starts


def _segment(row: Tensor, start: int, samples: int) -> Tensor:
    end = min(start + SEGMENT_SAMPLES, samples)
    return F.pad(row[start:end].float(), (0, SEGMENT_SAMPLES - (end - start)))


def _same_padding(
    size: Sequence[int], kernel: Sequence[int], stride: Sequence[int]
) -> tuple[int, int, int, int]:
    """Compute TensorFlow's uneven padding, as (left, right, top, bottom)."""
    pads: list[int] = []
    for n, k, s in zip(reversed(size), reversed(kernel), reversed(stride), strict=True):
        total = max(0, (-(-n // s) - 1) * s + k - n)
        pads += [total // 2, total - total // 2]
    return pads[0], pads[1], pads[2], pads[3]


def _pool(_: Graph, op: Op) -> _Step:
    options = tflite.Pool2DOptions()
    options.Init(op.options.Bytes, op.options.Pos)
    kernel = (options.FilterHeight(), options.FilterWidth())
    pool = F.avg_pool2d if op.name == "AVERAGE_POOL_2D" else F.max_pool2d
    source = op.inputs[0]
    return lambda _, grids: pool(grids[source], kernel)


def _pad(graph: Graph, op: Op) -> _Step:
    table = graph.constant(op.inputs[1])
    if table is None:
        raise CheckpointError("the encoder's file pads by a computed amount.")
    (top, bottom), (left, right) = table[1].tolist(), table[2].tolist()
    source = op.inputs[0]
    return lambda _, grids: F.pad(grids[source], (left, right, top, bottom))


def _plain(_: Graph, op: Op) -> _Step:
    inputs = op.inputs
    if op.name == "LOGISTIC":
        return lambda _, grids: grids[inputs[0]].sigmoid()
    if op.name == "MEAN":
        return lambda _, grids: grids[inputs[0]].mean((2, 3), keepdim=True)
    if op.name == "CONCATENATION":
        return lambda _, grids: torch.cat([grids[i] for i in inputs], 1)
    raise CheckpointError(f"the encoder's file has an operation that is not known: {op.name}.")
