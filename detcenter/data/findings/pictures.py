"""Images that are not what their annotation says, or hardly to be seen."""

from collections.abc import Iterator

from detcenter.data.dataset import Annotation
from detcenter.data.findings.found import Finding, Part, of_images

_BLACK = 16.0  # of 255: what 12 bits reach in a file of 16
_DARK_RANGE = 1 << 14  # of 65,536: a quarter, which is all that 14 bits reach


def size_findings(part: Part) -> Iterator[Finding | None]:
    """Images whose size is not the annotated one, by what that looks like.

    An image without an annotated size is none of them.
    """
    kinds: dict[str, list[tuple[int, str]]] = {kind: [] for kind in _SIZES}
    for index, annotation in enumerate(part.annotations):
        look = part.look(index)
        width, height = annotated_size(annotation)
        same = (width, height) == (look.width, look.height)
        if not same and width > 0 and height > 0 and look.width > 0:
            text = f"{look.width}x{look.height}, annotated as {width}x{height}"
            kind = _kind_of((width, height), (look.width, look.height), look.turned)
            kinds[kind].append((index, text))
    for kind, images in kinds.items():
        yield of_images(kind, "warning", _SIZES[kind], part, images)


_SIZES = {
    "size_scaled": "images smaller or larger than annotated; their boxes may be of the other size",
    "size_unturned": "images annotated without their EXIF turn; their boxes may lie across",
    "size_swapped": "images with width and height exchanged; their boxes may lie across",
    "size_other": "images of another size and shape than annotated; their boxes may be wrong",
}


def _kind_of(annotated: tuple[int, int], true: tuple[int, int], turned: bool) -> str:
    if annotated == true[::-1]:
        return "size_unturned" if turned else "size_swapped"
    # Both sides by the same factor, but for a pixel: |aw / w - ah / h| times both.
    skew = abs(annotated[0] * true[1] - annotated[1] * true[0])
    return "size_scaled" if skew <= max(*annotated, *true) else "size_other"


def annotated_size(annotation: Annotation) -> tuple[int, int]:
    """(width, height) as the file says, 0 where it says nothing."""
    return annotation.get("annotated_size", (annotation["width"], annotation["height"]))


def light_findings(part: Part) -> Iterator[Finding | None]:
    """Images that are nearly black, and why, where that is to be seen."""
    looks = [(i, part.look(i)) for i in range(len(part.annotations))]
    deep = [(i, look.highest) for i, look in looks if look.highest is not None]
    highest = max((value for _, value in deep), default=0)
    if highest < _DARK_RANGE:
        bits = max(highest.bit_length(), 1)
        what = f"16-bit images of {bits} bits: values up to {highest} of 65535; they look dark"
        said = ((i, f"values up to {value} of 65535") for i, value in deep)
        yield of_images("range", "warning", what, part, said)
    dark = (
        (i, f"99 % of it at most {look.brightness:.0f} of 255")
        for i, look in looks
        if look.brightness <= _BLACK
    )
    yield of_images("nearly_black", "warning", "images that are nearly black", part, dark)
