"""Synthetic evidence: what the pocket model's encoder would say about windows with chosen classes in them.

Knows prototypes, statistics of real embeddings and arithmetic; no audio and no text. The surprise: real embeddings do not lie at their own
class's prototype, so a Gaussian with the real statistics is conditioned on "class c scores t" instead, and what the model reads are the
strongest classes of each segment, which look alike in training and in life (Kahl et al. 2021 for the encoder).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own name for it
from jaxtyping import Bool, Float, Int
from safetensors.torch import load_file, save_file
from torch import Tensor

RIVALS = 5
"""Classes of a segment that become evidence."""
SEGMENT_S = 3.0
PRESENT_LOGIT = -1.5
"""From here on a class counts as present: a probability of 0.18 by the encoder."""
ABSENT_LOGIT = -2.2
"""Windows in which nothing is present stay below this."""


@dataclass(frozen=True)
class EvidenceBank:
    """What evidence is made of.

    Attributes:
        prototypes: The encoder's dense layer, (classes, width).
        bias: Its bias, (classes,).
        mean: Mean of real embeddings, (width,).
        factor: Low-rank factor of their covariance, (width, rank).
        spread: Standard deviation that the factor leaves over, (width,).
        neighbours: The nearest other classes of each class, by centred cosine, (classes, near).
    """

    prototypes: Float[Tensor, "classes width"]
    bias: Float[Tensor, " classes"]
    mean: Float[Tensor, " width"]
    factor: Float[Tensor, "width rank"]
    spread: Float[Tensor, " width"]
    neighbours: Int[Tensor, "classes near"]

    def to(self, device: torch.device | str) -> EvidenceBank:
        """Move to a device."""
        return EvidenceBank(
            self.prototypes.to(device),
            self.bias.to(device),
            self.mean.to(device),
            self.factor.to(device),
            self.spread.to(device),
            self.neighbours.to(device),
        )

    @property
    def directions(self) -> Float[Tensor, "classes width"]:
        """Normalised prototypes, as evidence frames hold them."""
        return F.normalize(self.prototypes, dim=1)


def embedding_statistics(
    embeddings: Float[Tensor, "count width"], rank: int = 128
) -> dict[str, Tensor]:
    """Summarise real embeddings by mean, low-rank factor and what is left over."""
    mean = embeddings.mean(0)
    centred = embeddings - mean
    _, scales, axes = torch.linalg.svd(centred / len(embeddings) ** 0.5, full_matrices=False)
    factor = (axes[:rank] * scales[:rank, None]).T.contiguous()
    left = (centred.square().mean(0) - factor.square().sum(1)).clamp_min(1e-6)
    return {"mean": mean, "factor": factor, "spread": left.sqrt()}


def make_bank(
    prototypes: Float[Tensor, "classes width"],
    bias: Float[Tensor, " classes"],
    statistics: dict[str, Tensor],
    near: int = 40,
) -> EvidenceBank:
    """Put a bank together from the encoder's dense layer and the statistics of real embeddings."""
    centred = F.normalize(prototypes - prototypes.mean(0), dim=1)
    cosine = centred @ centred.T
    cosine.fill_diagonal_(-2.0)
    mean, factor, spread = (statistics[name].float() for name in ("mean", "factor", "spread"))
    near_by = cosine.topk(near, dim=1).indices
    return EvidenceBank(prototypes, bias, mean, factor, spread, near_by)


def save_bank(bank: EvidenceBank, path: Path) -> None:
    """Write a bank to one safetensors file, the prototypes in half precision."""
    kept = {"prototypes": torch.float16, "factor": torch.float16, "neighbours": torch.int16}
    tensors = {k: v.to(kept.get(k, v.dtype)) for k, v in vars(bank).items()}
    save_file({k: v.contiguous().cpu() for k, v in tensors.items()}, path)


def load_bank(path: Path) -> EvidenceBank:
    """Read a bank back."""
    tensors = load_file(path)
    return EvidenceBank(
        **{k: v.float() if v.is_floating_point() else v.long() for k, v in tensors.items()}
    )


@dataclass(frozen=True)
class Evidence:
    """The strongest classes of the segments of windows.

    Attributes:
        classes: (windows, segments, rivals).
        logits: Falling within a segment, (windows, segments, rivals).
        starts: Of the segments in seconds, (windows, segments).
        real: Which segments exist, (windows, segments).
    """

    classes: Int[Tensor, "windows segments rivals"]
    logits: Float[Tensor, "windows segments rivals"]
    starts: Float[Tensor, "windows segments"]
    real: Bool[Tensor, "windows segments"]

    def frames(
        self, directions: Float[Tensor, "classes width"]
    ) -> tuple[Float[Tensor, "windows frames evidence"], Int[Tensor, " windows"]]:
        """Write the frames that the encoder would give, and their counts."""
        rank = torch.arange(self.classes.shape[2], device=self.logits.device, dtype=torch.float32)
        start = self.starts[..., None].expand_as(self.logits)
        numbers = (self.logits, self.logits.sigmoid(), start, rank.expand_as(self.logits))
        rows = torch.cat([directions[self.classes], torch.stack(numbers, -1)], -1)
        rows = rows.masked_fill(~self.real[..., None, None], 0.0)
        return rows.flatten(1, 2), self.real.sum(1) * self.classes.shape[2]

    def strongest(self) -> tuple[Int[Tensor, "windows all"], Float[Tensor, "windows all"]]:
        """List each window's classes by their highest logit; a class that comes again is -inf."""
        logits = self.logits.masked_fill(~self.real[..., None], -torch.inf).flatten(1)
        order = logits.argsort(dim=1, descending=True, stable=True)
        classes, logits = self.classes.flatten(1).gather(1, order), logits.gather(1, order)
        again = (classes[:, :, None] == classes[:, None, :]).tril(-1).any(2)
        return classes, logits.masked_fill(again, -torch.inf)


@dataclass(frozen=True)
class Synthesis:
    """How windows are made up.

    Attributes:
        lengths: Probability of one, two, ... segments.
        species: Probability of nothing, one, two, three classes in a window.
        absent: Probability that a segment holds none of its window's classes.
        logit_mean: Of the asked logit.
        logit_spread: Of the asked logit.
        swap: Probability that a segment's rivals are neighbours of its strongest class.
        lift: Probability that a segment's rivals are lifted near the top.
        noise: Standard deviation put on all logits.
        sounds: Probability that a chosen class is one of the sound classes.
    """

    lengths: tuple[float, ...] = (0.36, 0.12, 0.12, 0.3, 0.1)
    species: tuple[float, ...] = (0.1, 0.62, 0.2, 0.08)
    absent: float = 0.25
    logit_mean: float = 0.4
    logit_spread: float = 1.8
    swap: float = 0.7
    lift: float = 0.35
    noise: float = 0.27
    sounds: float = 0.04


@dataclass(frozen=True)
class Synthesiser:
    """Makes evidence up.

    Attributes:
        bank: What it is made of.
        sounds: Indices of the sound classes.
        settings: How windows are made up.
    """

    bank: EvidenceBank
    sounds: Int[Tensor, " sounds"]
    settings: Synthesis = Synthesis()

    def __call__(self, count: int, generator: torch.Generator) -> Evidence:
        """Make ``count`` windows; the same generator state gives the same windows."""
        s, device = self.settings, self.bank.bias.device
        most = len(s.lengths)
        segments = _draw(s.lengths, count, generator) + 1
        place = torch.arange(most, device=device)
        real = place[None] < segments[:, None]
        chosen = self._classes(count, generator)  # (windows, three)
        which = torch.randint(0, 3, (count, most), generator=generator, device=device)
        holders = _draw(s.species, count, generator)
        which = which % holders.clamp_min(1)[:, None]
        wanted = chosen.gather(1, which)
        empty = _uniform((count, most), generator, device) < s.absent
        empty = (empty & (place > 0)) | (holders == 0)[:, None]
        asked = torch.randn(count, most, generator=generator, device=device)
        asked = (asked * s.logit_spread + s.logit_mean).clamp(PRESENT_LOGIT + 0.02, 6.5)
        classes, logits = self.segments(
            wanted.flatten(), asked.flatten(), empty.flatten(), generator
        )
        shape = (count, most, RIVALS)
        order = _shuffled(real, generator)
        classes, logits = (
            t.reshape(shape).gather(1, order[..., None].expand(shape)) for t in (classes, logits)
        )
        return Evidence(classes, logits, self._starts(segments, place, generator), real)

    def segments(
        self,
        wanted: Int[Tensor, " n"],
        asked: Float[Tensor, " n"],
        empty: Bool[Tensor, " n"],
        generator: torch.Generator,
    ) -> tuple[Int[Tensor, "n rivals"], Float[Tensor, "n rivals"]]:
        """Make segments: class ``wanted`` scores ``asked`` on top, or nothing is present."""
        z = self.conditioned(wanted, asked, generator)
        rows = torch.arange(len(z), device=z.device)
        z[rows, wanted] = -torch.inf
        others, classes = z.topk(RIVALS, dim=1)
        classes = self._swapped(wanted, classes, generator)
        others = others + self.settings.noise * _normal(others.shape, generator, z.device)
        others = self._below(others.sort(1, descending=True).values, asked, generator)
        top = torch.cat([asked[:, None], others[:, :-1]], 1)
        named = torch.cat([wanted[:, None], classes[:, :-1]], 1)
        floor = ABSENT_LOGIT - 7.0 * _uniform((len(z), 1), generator, z.device).square()
        quiet = others + (floor - others[:, :1])
        return torch.where(empty[:, None], classes, named), torch.where(empty[:, None], quiet, top)

    def conditioned(
        self, wanted: Int[Tensor, " n"], asked: Float[Tensor, " n"], generator: torch.Generator
    ) -> Float[Tensor, "n classes"]:
        """Draw embeddings given that class ``wanted`` scores ``asked``; return their logits."""
        bank = self.bank
        device = bank.bias.device
        rank, width = bank.factor.shape[1], len(bank.mean)
        e = bank.mean + _normal((len(wanted), rank), generator, device) @ bank.factor.T
        e = e + bank.spread * _normal((len(wanted), width), generator, device)
        w = bank.prototypes[wanted]
        spread = (w @ bank.factor) @ bank.factor.T + w * bank.spread.square()
        gap = asked - ((e * w).sum(1) + bank.bias[wanted])
        e = e + spread * (gap / (spread * w).sum(1).clamp_min(1e-6))[:, None]
        return F.relu(e) @ bank.prototypes.T + bank.bias

    def _classes(self, count: int, generator: torch.Generator) -> Tensor:
        device = self.bank.bias.device
        classes = torch.randint(
            0, len(self.bank.bias), (count, 3), generator=generator, device=device
        )
        near = torch.randint(0, 12, (count, 1), generator=generator, device=device)
        alike = self.bank.neighbours[classes[:, 0]].gather(1, near)[:, 0]
        together = _uniform((count,), generator, device) < 0.3
        classes[:, 1] = torch.where(together, alike, classes[:, 1])
        sound = torch.randint(0, len(self.sounds), (count, 3), generator=generator, device=device)
        loud = _uniform((count, 3), generator, device) < self.settings.sounds
        return torch.where(loud, self.sounds[sound], classes)

    def _swapped(self, wanted: Tensor, classes: Tensor, generator: torch.Generator) -> Tensor:
        """Give some segments their strongest class's neighbours as rivals."""
        device = wanted.device
        near = self.bank.neighbours[wanted]
        reach = torch.where(_uniform((len(wanted), 1), generator, device) < 0.5, 12, near.shape[1])
        keys = _uniform(near.shape, generator, device)
        keys = keys.masked_fill(torch.arange(near.shape[1], device=device) >= reach, -1.0)
        picked = near.gather(1, keys.topk(RIVALS, dim=1).indices)
        swaps = _uniform((len(wanted), 1), generator, device) < self.settings.swap
        return torch.where(swaps, picked, classes)

    def _below(self, others: Tensor, asked: Tensor, generator: torch.Generator) -> Tensor:
        """Push rivals below the top, and lift some of them near it."""
        device = others.device
        close = 0.15 + 1.2 * _uniform((len(others), 1), generator, device).square()
        ceiling = asked[:, None] - close
        lifted = _uniform((len(others), 1), generator, device) < self.settings.lift
        steps = _uniform(others.shape, generator, device) * 1.5
        near = ceiling - steps.cumsum(1) + steps[:, :1]
        down = others - (others[:, :1] - ceiling).clamp_min(0.0)
        return torch.where(lifted, near, down)

    def _starts(self, segments: Tensor, place: Tensor, generator: torch.Generator) -> Tensor:
        """Segments lie back to back; the last of several may end with the window instead."""
        starts = (place * SEGMENT_S).float().repeat(len(segments), 1)
        last = (place[None] == segments[:, None] - 1) & (place[None] > 0)
        shift = SEGMENT_S * _uniform(starts.shape, generator, starts.device)
        ten = (segments == 4)[:, None] & (
            _uniform((len(starts), 1), generator, starts.device) < 0.6
        )
        shift = torch.where(ten, 2.0, torch.where(shift > 1.5, shift - 1.5, 0.0))
        return starts - torch.where(last, shift, 0.0)


def _uniform(shape: tuple[int, ...], generator: torch.Generator, device: torch.device) -> Tensor:
    return torch.rand(tuple(shape), generator=generator, device=device)


def _normal(shape: tuple[int, ...], generator: torch.Generator, device: torch.device) -> Tensor:
    return torch.randn(tuple(shape), generator=generator, device=device)


def _draw(shares: tuple[float, ...], count: int, generator: torch.Generator) -> Tensor:
    weights = torch.tensor(shares, device=generator.device)
    return torch.multinomial(weights, count, replacement=True, generator=generator)


def _shuffled(real: Tensor, generator: torch.Generator) -> Tensor:
    """Draw an order of each window's real segments, the others behind them."""
    keys = _uniform(tuple(real.shape), generator, real.device) + (~real).float() * 2
    return keys.argsort(dim=1)
