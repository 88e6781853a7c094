"""What `detcenter check` costs beyond decoding.

    python benchmarks/checking.py [--images 5000] [--json FILE]

JPEG files of 500x375 with seven boxes each are made first, in a folder that is deleted afterwards.
"""

import argparse
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from PIL import Image
from timing import heading, written

from detcenter.data import Annotation
from detcenter.data.checks import look_at
from detcenter.data.findings import Part, all_findings, near_copies

WIDTH, HEIGHT, BOXES = 500, 375, 7


def made_up(folder: Path, number: int, rng: np.random.Generator) -> Annotation:
    """Smooth noise, as large as a photograph when it is compressed."""
    small = rng.integers(0, 256, (HEIGHT // 8, WIDTH // 8, 3), dtype=np.uint8)
    path = folder / f"{number:06d}.jpg"
    Image.fromarray(small).resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC).save(path)
    corners = rng.uniform(0, [WIDTH - 100, HEIGHT - 100], (BOXES, 2))
    no = np.zeros(BOXES, bool)
    return Annotation(
        image_id=number,
        path=path,
        width=WIDTH,
        height=HEIGHT,
        boxes=np.hstack([corners, corners + rng.uniform(10, 100, (BOXES, 2))]),
        labels=rng.integers(1, 4, BOXES),
        iscrowd=no,
        difficult=no,
        area=np.ones(BOXES),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=5000)
    parser.add_argument("--json", type=Path, help="write the figures to this file too")
    arguments = parser.parse_args()
    images = arguments.images
    print(heading())
    rng = np.random.default_rng(0)
    with TemporaryDirectory() as folder:
        annotations = [made_up(Path(folder), number, rng) for number in range(images)]
        start = time.perf_counter()
        looks = look_at([annotation["path"] for annotation in annotations], gray=True)
        decoded = time.perf_counter()
        cut = images * 4 // 5
        parts = {"train": annotations[:cut], "val": annotations[cut:]}
        seen = [Part(name, of, ["a", "b", "c"], looks) for name, of in parts.items()]
        all_findings(seen, near_copies(seen))
        seconds = {"decoding": decoded - start, "findings": time.perf_counter() - decoded}
        print(f"{images} images: read and decoded in {seconds['decoding']:.1f} s")
        print(f"all findings, near copies too: {seconds['findings']:.1f} s more")
        written(arguments.json, [{"images": images} | {f"{k}_s": s for k, s in seconds.items()}])


if __name__ == "__main__":
    main()
