"""The command `detcenter`: beside the package, since importing that loads OpenMP.

OpenMP reads once how its threads wait for each other. By default they spin, which takes their cores
from whatever else runs: loading processes, other trainings. Whoever has set this has chosen.
"""

import os

if "GOMP_SPINCOUNT" not in os.environ:
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

from detcenter.cli import main, run  # noqa: E402

__all__ = ["main", "run"]
