"""The triplet ranking loss with mined negatives of caffe-video_triplet (Wang and Gupta,
"Unsupervised Learning of Visual Representations using Videos", ICCV 2015)."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from detcenter.losses.steps import in_training


class RankHardLoss(nn.Module):
    r"""Hinge that keeps a pair of one class closer than hard and random samples of other classes.

    Features are put on the unit sphere, their distance is :math:`d(i, j) = -x_i \cdot x_j`. They
    come in B blocks of ``pair_size`` samples of one class; the first of a block is its anchor i,
    the second, i+1, its positive::

        violating  V_i = {j: y_j != y_i and d(i, i+1) - d(i, j) + margin > 0}
        chosen     N_i = V_i                                     if |V_i| <= neg_num, otherwise
                         int(neg_num * hard_ratio) drawn from the neg_num hardest (smallest
                         d(i, j)) and int(neg_num * rand_ratio) drawn from what is left of V_i
        loss       L = 1/(2 * neg_num * B) * sum_i sum_{j in N_i}
                         max(0, d(i, i+1) - d(i, j) + margin)
                         + max(0, d(i, i+1) - d(i+1, j) + margin)

    The choice and the divisor are those of the authors' Caffe layer ``RankHardLoss``. It differs
    in that the normalization is inside (a layer of its own there) and in the blocks: a detector's
    batch has none, so that ``forward`` makes them at random from the samples of each class. It
    helps where classes that look alike are confused, and where one center a class is too few: it
    asks for an order of distances, not for one point. It needs batches with several positives a
    class; mining takes memory for B x P similarities.

    Draws come from a generator of their own, seeded from ``seed`` and the number of calls in
    training, which the ``state_dict`` keeps: a resumed run draws as if never stopped, and no
    other random number of the program changes. In eval mode and under ``no_grad`` the number
    stands still.

    Args:
        neg_num: negatives an anchor counts at most, at least 1.
        pair_size: samples a block, at least 2; those after the second are negatives only.
        hard_ratio: share of ``neg_num`` drawn from the hardest, in 0..1.
        rand_ratio: share of ``neg_num`` drawn from the other violating ones, in 0..1. Rounded
            down, both shares together are 1..neg_num samples.
        margin: by how much the positive should be closer, at least 0; distances lie in -1..1.
        seed: any integer; the same one gives the same draws.

    Shapes:
        features [P, D] of any floating dtype, labels [P] of any integers → a scalar in float32
        (float64 for float64 features). Without a block or a violating negative, and for P = 0, it
        is 0, and ``backward()`` works.

    Raises:
        ValueError: for other shapes, and for arguments out of range.

    Example:
        >>> rank_hard_loss = RankHardLoss()
        >>> features = torch.tensor([[1.0, 0.0], [0.0, 1.0], [2.0, 0.0]])
        >>> rank_hard_loss(features, torch.tensor([1, 1, 2]))  # (1.5 + 0.5) / (2 * 4 * 1)
        tensor(0.2500)
    """

    def __init__(
        self,
        neg_num: int = 4,
        pair_size: int = 2,
        hard_ratio: float = 0.5,
        rand_ratio: float = 0.5,
        margin: float = 0.5,
        seed: int = 0,
    ) -> None:
        super().__init__()
        whole = {"neg_num": neg_num, "pair_size": pair_size, "seed": seed}
        if not all(isinstance(value, int) for value in whole.values()):
            raise ValueError(f"RankHardLoss takes whole numbers for these, not {whole}")
        if neg_num < 1 or pair_size < 2 or not margin >= 0:
            raise ValueError(
                "RankHardLoss needs neg_num >= 1, pair_size >= 2 and margin >= 0, not "
                f"neg_num={neg_num}, pair_size={pair_size} and margin={margin}"
            )
        if not (0 <= hard_ratio <= 1 and 0 <= rand_ratio <= 1):
            raise ValueError(
                f"hard_ratio and rand_ratio lie in 0..1, not {hard_ratio} and {rand_ratio}"
            )
        self.neg_num = neg_num
        self.pair_size = pair_size
        self.hard_ratio = hard_ratio
        self.rand_ratio = rand_ratio
        self.margin = margin
        self.seed = seed
        self.calls = 0
        self._hard_num, self._rand_num = int(neg_num * hard_ratio), int(neg_num * rand_ratio)
        # With none an anchor would teach nothing just when much is wrong; with more than neg_num
        # the pool could run out, and the divisor would no longer bound the sum.
        if not 1 <= self._hard_num + self._rand_num <= neg_num:
            raise ValueError(
                "int(neg_num * hard_ratio) + int(neg_num * rand_ratio) must lie in 1..neg_num: "
                f"neg_num={neg_num}, hard_ratio={hard_ratio} and rand_ratio={rand_ratio} draw "
                f"{self._hard_num} + {self._rand_num}"
            )

    def forward(self, features: Tensor, labels: Tensor) -> Tensor:
        self._check_shapes(features, labels)
        generator = self._generator(features.device)
        order, is_block = self._paired(labels, generator)
        return self._loss(features.index_select(0, order), labels[order], is_block, generator)

    def of_blocks(self, features: Tensor, labels: Tensor) -> Tensor:
        """The loss of samples that are in blocks already, as the Caffe layer takes them.

        Args:
            features: [P, D], P a multiple of ``pair_size``.
            labels: [P], ``pair_size`` equal ones after another; one class may have many blocks.

        Raises:
            ValueError: if they are not so. On an accelerator only shapes are checked, as the
                labels would have to be waited for.
        """
        self._check_shapes(features, labels)
        if len(labels) % self.pair_size:
            raise ValueError(
                f"of_blocks takes blocks of pair_size={self.pair_size} samples, "
                f"not {len(labels)} samples"
            )
        blocks = labels.reshape(-1, self.pair_size)
        if labels.device.type == "cpu" and (mixed := (blocks != blocks[:, :1]).any(1)).any():
            raise ValueError(f"a block has one label, not {blocks[mixed][0].tolist()}")
        is_block = torch.ones_like(blocks[:, 0], dtype=torch.bool)
        return self._loss(features, labels, is_block, self._generator(features.device))

    def _paired(self, labels: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """An order [P] with random blocks of each class first and the samples left over last, and
        which of its P // pair_size stretches are blocks. Nothing waits for the device."""
        samples = torch.arange(len(labels), device=labels.device)
        order = torch.randperm(len(labels), generator=generator, device=labels.device)
        order = order[labels[order].argsort(stable=True)]
        by_class = labels[order]
        start = torch.searchsorted(by_class, by_class)
        size = torch.searchsorted(by_class, by_class, right=True) - start
        left_over = samples - start >= size // self.pair_size * self.pair_size
        order = order[left_over.int().argsort(stable=True)]
        starts = samples[: len(labels) // self.pair_size] * self.pair_size
        return order, starts < (~left_over).sum()

    def _loss(
        self, features: Tensor, labels: Tensor, is_block: Tensor, generator: torch.Generator
    ) -> Tensor:
        """The loss of features [P, D] whose first stretches are blocks where ``is_block`` [B]."""
        # In half precision the mined order and the sum would be coarse, so autocast stays outside.
        with torch.autocast(features.device.type, enabled=False):
            features = features.to(torch.promote_types(features.dtype, torch.float32))
            features = F.normalize(features, dim=1)
            chosen, counted = self._mined(features, labels, generator)
            anchors, positives = (features[rows] for rows in self._pairs(len(labels)))
            # The gradient needs the chosen negatives only: [B, K, D] instead of all of [B, P].
            negatives = features.index_select(0, chosen.flatten())
            negatives = negatives.view(*chosen.shape, features.shape[1])
            similarity = negatives @ torch.stack([anchors, positives], 2)  # [B, K, 2]
            to_positive = (anchors * positives).sum(1)[:, None, None]
            hinge = (similarity - to_positive + self.margin).clamp(min=0)
            counted = counted & is_block[:, None]
            divisor = 2 * self.neg_num * is_block.sum().clamp(min=1)
            return (hinge * counted[:, :, None]).sum() / divisor

    @torch.no_grad()
    def _mined(
        self, features: Tensor, labels: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """N_i of each stretch as sample numbers [B, K], and which of these count [B, K]."""
        anchors, positives = self._pairs(len(labels))
        rows = torch.arange(len(labels), device=labels.device)
        similarity = features[anchors] @ features.T
        to_positive = similarity.gather(1, rows[positives, None])
        # In place, as [B, P] is large.
        violation = similarity.sub_(to_positive - self.margin)
        violation.masked_fill_(labels[anchors, None] == labels, 0)
        hardest, chosen = violation.topk(min(self.neg_num + 1, len(labels)))
        if len(labels) <= self.neg_num:
            return chosen, hardest > 0
        crowded = hardest[:, self.neg_num :] > 0
        chosen, counted = chosen[:, : self.neg_num], hardest[:, : self.neg_num] > 0
        drawn = self._drawn(violation > 0, chosen, generator)
        drawn = F.pad(drawn, (0, self.neg_num - drawn.shape[1]), value=-1)
        return drawn.where(crowded, chosen).clamp(min=0), (drawn >= 0).where(crowded, counted)

    def _drawn(self, violating: Tensor, hardest: Tensor, generator: torch.Generator) -> Tensor:
        """The draws of those rows of ``violating`` [B, P] that have more than neg_num."""
        sizes = torch.full_like(hardest[:, 0], self.neg_num)
        hard = hardest.gather(1, _subsets(sizes, self._hard_num, generator))
        # The r-th of the pool is the column where the count of those up to it reaches r.
        counts = violating.scatter_(1, hard, False).cumsum(1, dtype=torch.int32)
        sizes = counts[:, -1].long().clamp(min=self._rand_num)
        ranks = _subsets(sizes, self._rand_num, generator) + 1
        return torch.cat([hard, torch.searchsorted(counts, ranks.int())], 1)

    def _pairs(self, samples: int) -> tuple[slice, slice]:
        """Where the first and the second sample of each stretch of ``pair_size`` are."""
        end = samples // self.pair_size * self.pair_size
        return slice(0, end, self.pair_size), slice(1, end, self.pair_size)

    def _generator(self, device: torch.device) -> torch.Generator:
        # The CPU's generator reads 32 bits of a seed. The golden ratio keeps the sequences of
        # neighbouring seeds apart.
        seed = (self.seed * 0x9E3779B1 + self.calls) % 2**32
        self.calls += in_training(self)
        return torch.Generator(device).manual_seed(seed)

    def _check_shapes(self, features: Tensor, labels: Tensor) -> None:
        if features.dim() != 2 or features.shape[:1] != labels.shape:
            raise ValueError(
                "RankHardLoss takes features [P, D] and labels [P], not "
                f"{list(features.shape)} and {list(labels.shape)}"
            )

    def get_extra_state(self) -> Tensor:
        return torch.tensor(self.calls)

    def set_extra_state(self, state: Tensor) -> None:
        self.calls = int(state)

    def extra_repr(self) -> str:
        return (
            f"neg_num={self.neg_num}, pair_size={self.pair_size}, hard_ratio={self.hard_ratio}, "
            f"rand_ratio={self.rand_ratio}, margin={self.margin}, seed={self.seed}"
        )


def _subsets(sizes: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """``count`` different numbers of 0..size-1 for each of ``sizes`` [B], any subset as likely as
    another (R. W. Floyd, CACM 30(9), 1987) → [B, count]."""
    numbers = sizes.new_empty(len(sizes), count)
    for i in range(count):
        last = sizes - count + i
        # The remainder is uniform up to size / 2^62.
        number = torch.randint(2**62, sizes.shape, generator=generator, device=sizes.device)
        number %= last + 1
        seen = (numbers[:, :i] == number[:, None]).any(1)
        numbers[:, i] = last.where(seen, number)
    return numbers
