"""Nearly equal images among many."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from detcenter.data.dataset import Annotation
from detcenter.data.looks import Look

_BITS = 256  # of a hash: 64 tell chess boards with different pieces on them no longer apart
_DISTANCE = 24  # bits that may differ
_SIDE = 32  # pixels of the pictures that are compared in the end
_DIFFERENCE = 50.0  # of 255, of any pixel in these
_FLAT = 4.0  # of 255, the standard deviation of pictures with nothing in them to compare
_OVERLAP = 0.5  # IoU of boxes that are of the same object in both
_NEIGHBOURS = 24  # images that an image is compared with, of those that share a piece of its hash
_AT_ONCE = 1 << 12  # pairs


class Candidate(NamedTuple):
    """An image and its boxes."""

    part: int  # number
    look: Look
    annotation: Annotation


def near_pairs(
    images: Sequence[Candidate], progress: Callable[[Iterable[Any]], Iterable[Any]] = iter
) -> Iterator[tuple[int, int]]:
    """Pairs of images that are one photograph: saved, scaled or lit otherwise, or moved a little.

    Of many copies each is in a pair, but not all pairs are given.

    Three things must agree. (1) Perceptual hashes, the signs of 256 low frequencies (imagehash's
    phash), differ in 24 bits at most: saving and scaling change up to 12. (2) Pictures of 32 x 32
    pixels, after the best gain and offset, differ by 50 of 255 at most everywhere: a camera that
    stands still gives nearly the same hash when a single object was moved, but then a few pixels
    differ by 70 and more. (3) Of the boxes at least half are at the same places, so that frames
    with small or pale objects that moved are no copies either.

    Images with hashes that near share one of 25 pieces of it, so only those that do are compared.

    Args:
        progress: wraps the images while their hashes are made.
    """
    chosen = [i for i, image in enumerate(images) if _has_content(image.look)]
    hashes = [_hash(images[i].look) for i in progress(chosen)]
    if len(hashes) < 2:
        return
    pairs = near_hashes(np.stack(hashes))
    small = np.stack([_small(images[i].look) for i in chosen])
    part = np.array([images[i].part for i in chosen])
    done = np.zeros((len(chosen), part.max() + 1), bool)  # has a copy, of each part
    for start in range(0, len(pairs), _AT_ONCE):
        a, b = pairs[start : start + _AT_ONCE].T
        new = ~(done[a, part[b]] & done[b, part[a]])
        a, b = a[new], b[new]
        alike = _differences(small[a], small[b]) <= _DIFFERENCE
        for first, second in zip(a[alike].tolist(), b[alike].tolist(), strict=True):
            one, other = images[chosen[first]], images[chosen[second]]
            if done[first, other.part] and done[second, one.part]:
                continue
            if one.look.digest != other.look.digest and _boxes_agree(one, other):
                done[first, other.part] = done[second, one.part] = True
                yield chosen[first], chosen[second]


def _has_content(look: Look) -> bool:
    return look.gray is not None and float(look.gray.std()) >= _FLAT


def _hash(look: Look) -> np.ndarray:
    """bool [256]."""
    from imagehash import phash

    assert look.gray is not None
    bits = phash(Image.fromarray(look.gray), hash_size=16).hash
    return np.asarray(bits, dtype=bool).ravel()


def _small(look: Look) -> np.ndarray:
    assert look.gray is not None
    side = len(look.gray) // _SIDE
    return look.gray.reshape(_SIDE, side, _SIDE, side).mean(axis=(1, 3)).astype(np.float32)


def near_hashes(bits: np.ndarray) -> np.ndarray:
    """Pairs int64 [P, 2] of hashes, bool [N, 256], that are near, in order; each pair once.

    Of those with the same piece each is compared with the next `_NEIGHBOURS` in the order of the
    whole hash: of a film's frames each is found with some others, not with all.
    """
    packed = np.packbits(bits, axis=1)
    words, codes = packed.view(np.uint64), [np.zeros(0, np.int64)]
    for piece in np.array_split(np.arange(_BITS), _DISTANCE + 1):
        keys = np.packbits(bits[:, piece], axis=1)
        order = np.lexsort([*packed.T, *keys.T])
        ordered = keys[order]
        for step in range(1, min(_NEIGHBOURS, len(order) - 1) + 1):
            start = np.flatnonzero((ordered[step:] == ordered[:-step]).all(axis=1))
            if len(start) == 0:
                break
            pairs = np.stack([order[start], order[start + step]], axis=1)
            near = np.sort(pairs[_distances(words, pairs) <= _DISTANCE], axis=1)
            codes.append(near @ np.array([len(bits), 1]))
    return np.stack(np.divmod(np.unique(np.concatenate(codes)), len(bits)), axis=1)


def _distances(words: np.ndarray, pairs: np.ndarray) -> np.ndarray:
    """How many bits differ, int64 [P]."""
    differ = words[pairs[:, 0]] ^ words[pairs[:, 1]]
    return np.asarray(np.bitwise_count(differ).sum(axis=1, dtype=np.int64))


def _differences(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """The largest of any pixel of pictures [P, S, S], after gain and offset that fit best."""
    a, b = (x - x.mean(axis=(1, 2), keepdims=True) for x in (a, b))
    gain = (a * b).mean(axis=(1, 2)) / (a * a).mean(axis=(1, 2))
    return np.asarray(np.abs(a * gain[:, None, None] - b).max(axis=(1, 2)))


def _boxes_agree(one: Candidate, other: Candidate) -> bool:
    """Whether half of all boxes have one at their place in the other image, or none has any."""
    a, b = (_relative(image.annotation) for image in (one, other))
    if len(a) == 0 or len(b) == 0:
        return len(a) == len(b)
    common = np.minimum(a[:, None, 2:], b[None, :, 2:]) - np.maximum(a[:, None, :2], b[None, :, :2])
    shared = np.clip(common, 0, None).prod(axis=2)
    areas = [(x[:, 2:] - x[:, :2]).prod(axis=1) for x in (a, b)]
    same = shared >= _OVERLAP * (areas[0][:, None] + areas[1][None] - shared)
    return bool((same.any(axis=1).sum() + same.any(axis=0).sum()) * 2 >= len(a) + len(b))


def _relative(annotation: Annotation) -> np.ndarray:
    """Boxes as parts of the image, those that are any."""
    boxes = annotation["boxes"] / np.tile([annotation["width"], annotation["height"]], 2)
    real = np.isfinite(boxes).all(axis=1) & (boxes[:, 2:] > boxes[:, :2]).all(axis=1)
    return np.clip(boxes[real], -1, 2)
