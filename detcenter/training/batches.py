"""Which images a step takes."""

from collections.abc import Iterator

import numpy as np
from torch.utils.data import Sampler


class EpochBatches(Sampler[list[tuple[int, int]]]):
    """The batches that one process loads in an epoch: lists of (index, seed).

    The order of the images and the seed of each one's augmentation follow from ``seed`` and
    ``epoch`` alone, whatever processes or workers load them and wherever the epoch is taken up.
    A step takes ``passes`` batches in each of ``processes``: the same images, in all, as one pass
    of one process with a batch so many times as large. Images that do not fill a last step are left
    out, since a batch of one would spoil the statistics of batch norm; where there are too few for
    one step, it takes them all, in parts that differ by one image at most.

    Args:
        size: images in the data set.
        batch_size: images a pass and process.
        seed: of the run.
        process: which of ``processes`` this is, from 0.

    Attributes:
        epoch: from 1; to be set before every epoch.
        start: steps of the epoch that are done already.

    Raises:
        ValueError: if some pass would be left without an image.
    """

    def __init__(
        self,
        size: int,
        batch_size: int,
        seed: int = 0,
        *,
        passes: int = 1,
        process: int = 0,
        processes: int = 1,
    ) -> None:
        if size < passes * processes:
            raise ValueError(f"{size} images are too few for {passes * processes} passes a step")
        self.size = size
        self.seed = seed
        self.passes, self.process, self.processes = passes, process, processes
        self.images_a_step = min(size, batch_size * passes * processes)
        self.steps = size // self.images_a_step
        self.epoch, self.start = 1, 0

    def __len__(self) -> int:
        return (self.steps - self.start) * self.passes

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        random = np.random.default_rng([self.seed, self.epoch])
        order = random.permutation(self.size)
        seeds = random.integers(2**62, size=self.size)
        pairs = list(zip(order.tolist(), seeds.tolist(), strict=True))
        for step in range(self.start, self.steps):
            parts = _parts(self.images_a_step, self.passes * self.processes)
            for number in range(self.process, len(parts), self.processes):
                yield [pairs[step * self.images_a_step + i] for i in parts[number]]


def _parts(count: int, parts: int) -> list[list[int]]:
    return [part.tolist() for part in np.array_split(np.arange(count), parts)]
