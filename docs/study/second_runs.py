"""Add the runs of the second study below a folder to second_runs.csv, where every run is listed.

python docs/study/second_runs.py runs/second
"""

import csv
import json
import sys
from collections.abc import Iterator
from pathlib import Path

LISTED = Path(__file__).with_name("second_runs.csv")
NUMBERS = ("AP", "AP50", "AP75")
COLUMNS = ("setting", "arm", "data", "seed", *NUMBERS, "own_ratio", "failures")


def main(root: Path) -> None:
    rows = {_key(row): row for row in listed()} | {_key(row): row for row in _found(root)}
    with LISTED.open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows[key] for key in sorted(rows))
    print(f"{len(rows)} runs in {LISTED}")


def listed() -> list[dict[str, str]]:
    """A row a run; of one that failed twice, AP is 0, see protocol.md."""
    if not LISTED.exists():
        return []
    with LISTED.open(newline="") as file:
        return list(csv.DictReader(file))


def _found(root: Path) -> Iterator[dict[str, str]]:
    for config in sorted(root.glob("**/seed_*/config.yaml")):
        run = config.parent
        arm, *data = run.relative_to(root).parts[1:-1]
        row = {
            "setting": run.relative_to(root).parts[0],
            "arm": arm,
            "data": data[0].rpartition("=")[2] if data else "0",
            "seed": run.name.removeprefix("seed_"),
        }
        failed = run / "failed.txt"
        row["failures"] = str(len(failed.read_text().splitlines()) if failed.exists() else 0)
        if (run / "results.json").exists():
            results = json.loads((run / "results.json").read_text())
            yield row | {n: f"{results[n]:.6f}" for n in NUMBERS} | {"own_ratio": _own(run)}
        elif int(row["failures"]) > 1:
            yield row | dict.fromkeys(NUMBERS, "0") | {"own_ratio": ""}


def _own(run: Path) -> str:
    """What `detcenter compare` measured beside AP; nothing of runs that it did not train."""
    file = run / "measured.json"
    return f"{json.loads(file.read_text())['own']:.4f}" if file.exists() else ""


def _key(row: dict[str, str]) -> tuple[str, str, int, int]:
    return row["setting"], row["arm"], int(row["data"]), int(row["seed"])


if __name__ == "__main__":
    main(Path(sys.argv[1]))
