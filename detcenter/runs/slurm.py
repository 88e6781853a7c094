"""Every run a job of SLURM, by submitit: https://github.com/facebookincubator/submitit."""

import re
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from detcenter.errors import ConfigError
from detcenter.recipe.config import Config
from detcenter.runs import claims
from detcenter.runs.claims import Claims
from detcenter.runs.folder import note_failure
from detcenter.runs.measured import epochs_done, is_measured
from detcenter.runs.side_by_side import Jobs, progress_of, train_side_by_side, waits_for

_LOOK = 10.0  # seconds between looks at the runs and the queue
_NAMES = {"partition": "partition", "gpus": "gpus_per_node", "cpus": "cpus_per_task"}
_MOST_CONTINUED = 100  # times that a job whose time is up goes on in another


def slurm_parameters(given: Sequence[str]) -> dict[str, str]:
    """What ``--slurm`` says: KEY=VALUE, several in one, or one each time.

    Raises:
        ConfigError: if one is something else, or ``time`` is missing or no time.
    """
    parameters = {}
    for pair in " ".join(given).split():
        key, equals, value = pair.removeprefix("--").partition("=")
        if not key or not equals or not value:
            raise ConfigError(f"--slurm {pair}: KEY=VALUE is due, partition=gpu say")
        parameters[key] = value
    if "time" not in parameters:
        raise ConfigError(
            "--slurm time=HOURS:MINUTES:SECONDS is missing: how long a job may take; a run that "
            "takes longer goes on in another"
        )
    minutes_of(parameters["time"])
    return parameters


def minutes_of(text: str) -> int:
    """A time as sbatch takes it: M, M:S, H:M:S, D-H, D-H:M or D-H:M:S; rounded up.

    Raises:
        ConfigError: if it is none.
    """
    match = re.fullmatch(r"(?:(\d+)-)?(\d+)(?::(\d+))?(?::(\d+))?", text)
    if match is None:
        raise ConfigError(f"--slurm time={text}: minutes, or HOURS:MINUTES:SECONDS, are due")
    days, *parts = match.groups()
    numbers = [int(part) for part in parts if part is not None]
    if days is not None:
        hours, minutes, seconds = [*numbers, 0, 0][:3]
    elif len(numbers) == 3:
        hours, minutes, seconds = numbers
    else:
        hours, (minutes, seconds) = 0, [*numbers, 0][:2]
    return 1440 * int(days or 0) + 60 * hours + minutes + -(-seconds // 60)


class Job:
    """What a job does: train one run, unless another process has it.

    When its time is nearly up submitit asks for a ``checkpoint``, puts the job in the queue again,
    and ends it, at which the run stops and saves.
    """

    def __init__(self, run: Mapping[Path, Config], lenders: Mapping[Path, Sequence[Path]]) -> None:
        self._run, self._lenders = run, lenders

    def __call__(self) -> None:
        # Longer than a dead holder's claim lasts: this job's own, maybe, before it came again.
        patience = 1.5 * claims.EXPIRES
        try:
            train_side_by_side(self._run, 1, self._lenders, patience)
        except KeyboardInterrupt as stop:  # of which submitit would not say that the job has ended
            raise RuntimeError("the job was told to stop") from stop

    def checkpoint(self) -> Any:
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)


def train_on_slurm(
    runs: Mapping[Path, Config],
    jobs: Jobs,
    lenders: Mapping[Path, Sequence[Path]],
    parameters: Mapping[str, str],
    folder: Path,
    cluster: str = "slurm",
) -> dict[Path, str]:
    """Train every run in a job of its own; returns why runs failed, by their folder.

    Args:
        jobs: at a time; None is as many as SLURM lets run.
        parameters: see :func:`slurm_parameters`.
        folder: for what jobs print, and for what submitit keeps.
        cluster: "local" runs the jobs here, for tests.

    Raises:
        ConfigError: if SLURM is not there, or does not take the jobs.
        KeyboardInterrupt: after Ctrl-C; the jobs are cancelled.
    """
    seen, failed, said = Claims(runs), dict[Path, str](), ""
    waiting = _submitted(runs, jobs, lenders, parameters, folder, cluster)
    try:
        with progress_of(runs) as progress:
            while waiting:
                ended, others = _ended([*waiting.values()], cluster), dict[Path, str]()
                for path, job in [*waiting.items()]:
                    other = seen.look(path)  # which opens the folder, for what has come there
                    if is_measured(path):
                        progress.write(f"{path}: done")
                    elif other is not None and other.state == "failed":
                        failed[path] = other.why or "not known"
                        progress.write(f"{path}: failed: {failed[path]} (see its log.txt)")
                    elif other is None and job.job_id in ended:
                        failed[path] = f"job {job.job_id} has ended too early"
                        note_failure(path, failed[path])
                        progress.write(f"{path}: failed: {failed[path]} (see {job.paths.stderr})")
                    else:
                        if other is not None and job.job_id in ended:
                            others[path] = other.who
                        continue
                    del waiting[path]
                if (text := waits_for(others)) and text != said:
                    progress.write(text)
                said = text
                progress.update(sum(map(epochs_done, runs)) - progress.n)
                time.sleep(_LOOK)
    finally:
        for job in waiting.values():
            job.cancel(check=False)
    return failed


def _ended(jobs: Sequence[Any], cluster: str) -> set[str]:
    """The numbers of those that neither wait nor run."""
    if cluster != "slurm":
        return {job.job_id for job in jobs if job.done()}
    # sacct, which submitit asks, is not on every cluster.
    asked = ["squeue", "--me", "--noheader", "--array", "--format=%i"]
    queue = subprocess.run(asked, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    if queue.returncode:  # SLURM is busy, or being restarted
        return set()
    return {job.job_id for job in jobs} - set(queue.stdout.split())


def _submitted(
    runs: Mapping[Path, Config],
    jobs: Jobs,
    lenders: Mapping[Path, Sequence[Path]],
    parameters: Mapping[str, str],
    folder: Path,
    cluster: str,
) -> dict[Path, Any]:
    import submitit

    rest = {key: value for key, value in parameters.items() if key not in (*_NAMES, "time")}
    known: dict[str, Any] = {
        f"slurm_{_NAMES[key]}": parameters[key] for key in _NAMES if key in parameters
    }
    if isinstance(jobs, int):
        known["slurm_array_parallelism"] = jobs
    try:
        executor = submitit.AutoExecutor(
            folder.resolve() / "%j", cluster, slurm_max_num_timeout=_MOST_CONTINUED
        )
        executor.update_parameters(
            name="detcenter",
            timeout_min=minutes_of(parameters["time"]),
            slurm_additional_parameters=rest,
            **known,
        )
        with executor.batch():
            submitted = {
                path: executor.submit(
                    Job({path: config}, {path: lenders[path]} if path in lenders else {})
                )
                for path, config in runs.items()
            }
    except RuntimeError as error:
        raise ConfigError(f"--launcher slurm: {' '.join(str(error).split())}") from None
    print(f"jobs of SLURM: {len(submitted)}; what they print is in {folder}")
    return submitted
