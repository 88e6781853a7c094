"""How large a report is and how long it takes to open: python benchmarks/report_page.py [PAGE.html]

A page that `detcenter report` wrote is opened; without one, pages of made-up runs are made first.
Chromium has to be there to open them.
"""

import argparse
import json
import shutil
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from PIL import Image
from timing import heading, written

from detcenter.evaluation import evaluate_detections, metrics_json
from detcenter.report import ReportedData, ReportedRun, report_page

OBJECTS, DETECTIONS, SIDE = 7, 100, 640


def made_up(images: int, classes: int, runs: int) -> str:
    """A page of runs that detect the same boxes on smooth noise."""
    rng = np.random.default_rng(0)
    names = [f"class {k}" for k in range(classes)]
    pairs = [made_up_image(i, classes, rng) for i in range(images)]
    annotations, detections = map(list, zip(*pairs, strict=True))
    metrics = evaluate_detections(annotations, detections, names, "hotcoco")
    results = json.loads(metrics_json(metrics))
    labels, boxes = (np.concatenate([a[key] for a in annotations]) for key in ("labels", "boxes"))
    features = rng.normal(size=(len(labels), 64)) + rng.normal(size=(classes + 1, 64))[labels]
    history = [
        {"epoch": str(epoch), "AP": "0.3"} | {f"AP_by_class/{name}": "0.2" for name in names}
        for epoch in range(60)
    ]
    made = [
        ReportedRun(str(k), {}, "", history, results, detections, features, None, "made up")
        for k in range(runs)
    ]
    places = np.repeat(np.arange(images), OBJECTS)
    return report_page(made, ReportedData(names, annotations, labels, boxes, places), noise)


def made_up_image(number: int, classes: int, rng: np.random.Generator) -> tuple[Any, Any]:
    corners, sides = rng.uniform(0, 500, (OBJECTS, 2)), rng.uniform(20, 130, (OBJECTS, 2))
    boxes = np.hstack([corners, corners + sides]).astype(np.float32)
    labels = rng.integers(1, classes + 1, OBJECTS)
    of = rng.integers(0, OBJECTS, DETECTIONS)
    others = rng.integers(1, classes + 1, DETECTIONS)
    found = boxes[of] + rng.normal(0, 15, (DETECTIONS, 4))
    found[:, 2:] = np.maximum(found[:, 2:], found[:, :2] + 1)
    no = np.zeros(OBJECTS, bool)
    annotation = {"image_id": number, "path": Path(f"{number:012d}.jpg"), "width": SIDE}
    annotation |= {"height": SIDE, "boxes": boxes, "labels": labels, "area": sides.prod(axis=1)}
    detection = {"boxes": found, "scores": rng.beta(0.5, 3, DETECTIONS)}
    detection["labels"] = np.where(rng.random(DETECTIONS) < 0.7, labels[of], others)
    return annotation | {"iscrowd": no, "difficult": no}, detection


def noise(number: int) -> np.ndarray:
    """About as hard to compress as a photograph: coarse patches, and a grain."""
    rng = np.random.default_rng(number)
    patches = Image.fromarray(rng.integers(0, 256, (40, 40, 3), np.uint8)).resize((SIDE, SIDE))
    grain = rng.normal(0, 6, (SIDE, SIDE, 1))
    return (np.asarray(patches) + grain).clip(0, 255).astype(np.uint8)


def opened(page: Path) -> tuple[float, float]:
    """Seconds until the page is there, and until its first chart is, of three times the middle."""
    from playwright.sync_api import sync_playwright

    times = []
    with sync_playwright() as playwright:
        path = shutil.which("chromium")
        browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        for _ in range(3):
            tab = browser.new_page(viewport={"width": 1366, "height": 900})
            start = time.perf_counter()
            tab.goto(page.resolve().as_uri())
            there = time.perf_counter() - start
            tab.locator(".chart").first.scroll_into_view_if_needed()
            tab.locator(".chart .main-svg").first.wait_for()
            times.append((there, time.perf_counter() - start))
            tab.close()
        browser.close()
    return sorted(times)[1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("page", nargs="?", type=Path)
    parser.add_argument("--json", type=Path, help="write the figures to this file too")
    arguments = parser.parse_args()
    chosen, rows = arguments.page, list[dict[str, Any]]()
    print(heading())
    if chosen is not None:
        there, chart = opened(chosen)
        print(f"{chosen}: {there:.1f} s, with a chart {chart:.1f} s")
        written(arguments.json, [{"page": str(chosen), "open_s": there, "chart_s": chart}])
        return
    print("images  classes  runs   made    MB  opens  chart")
    for images, classes, runs in ((500, 80, 2), (5000, 80, 2), (500, 300, 5)):
        with TemporaryDirectory() as folder:
            page, start = Path(folder) / "report.html", time.perf_counter()
            page.write_text(made_up(images, classes, runs), encoding="utf-8")
            made, size = time.perf_counter() - start, page.stat().st_size / 1e6
            there, chart = opened(page)
        sizes = f"{images:6}  {classes:7}  {runs:4}"
        print(f"{sizes}  {made:3.0f} s  {size:4.1f}  {there:3.1f} s  {chart:3.1f} s", flush=True)
        row = {"images": images, "classes": classes, "runs": runs, "megabytes": size}
        rows.append(row | {"made_s": made, "open_s": there, "chart_s": chart})
        written(arguments.json, rows)


if __name__ == "__main__":
    main()
