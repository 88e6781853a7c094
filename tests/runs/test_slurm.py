"""Runs as jobs: what is asked of SLURM, and jobs by submitit's local executor."""

import shlex

import pytest

from detcenter.errors import ConfigError
from detcenter.recipe.config import Config
from detcenter.recipe.parsing import parse_recipe, recipe_parser
from detcenter.runs import claims, side_by_side, slurm
from detcenter.runs.claims import Claims
from detcenter.runs.slurm import Job, minutes_of, slurm_parameters, train_on_slurm
from tests.command_line import fails


@pytest.mark.parametrize(
    ("text", "minutes"),
    # As "man sbatch" has them.
    [("30", 30), ("30:01", 31), ("4:00:00", 240), ("1-0", 1440), ("2-3:30", 3090), ("0:0:1", 1),
     ("1-1:1:1", 1502)],
)  # fmt: skip
def test_times(text, minutes):
    assert minutes_of(text) == minutes


@pytest.mark.parametrize("text", ["", "1h", "1:2:3:4", "-5", "1-", "1:", "infinite"])
def test_what_is_no_time(text):
    with pytest.raises(ConfigError, match=f"--slurm time={text}: minutes, or HOURS"):
        minutes_of(text)


def test_what_is_asked_for():
    given = ["time=4:00:00 partition=gpu", "--mem=8G", "gres=gpu:a100:1"]
    asked = {"time": "4:00:00", "partition": "gpu", "mem": "8G", "gres": "gpu:a100:1"}
    assert slurm_parameters(given) == asked


def test_wrong_use_is_one_line(recipe, monkeypatch, capsys):
    args = ("audit", "--config", recipe)
    jobs = (*args, "--launcher", "slurm")
    assert "--slurm goes along with" in fails(capsys, *args, "--slurm", "time=1")
    assert "--launcher pbs: slurm is the only one" in fails(capsys, *args, "--launcher", "pbs")
    assert "--slurm time=HOURS" in fails(capsys, *jobs)
    assert "KEY=VALUE is due" in fails(capsys, *jobs, "--slurm", "time=1 gpu")
    assert "--jobs auto is for one" in fails(capsys, *jobs, "--jobs", "auto", "--slurm", "time=1")
    monkeypatch.setattr("detcenter.recipe.extras.find_spec", lambda name: None)
    line = fails(capsys, *jobs, "--slurm", "time=1")
    assert "--launcher slurm needs submitit: pip install 'detcenter[slurm]'" in line


@pytest.fixture
def cluster(tmp_path, monkeypatch):
    """A SLURM that takes jobs, keeps what it was asked, and runs none."""
    programs = tmp_path / "bin"
    programs.mkdir()
    asked = tmp_path / "asked"
    texts = {
        "srun": "",
        "squeue": "echo 12_0; echo 12_2",
        "scancel": f'echo "scancel $@" >> {shlex.quote(str(asked))}',
        "sbatch": f'cat "$1" >> {shlex.quote(str(asked))}; echo Submitted batch job 12',
    }
    for name, text in texts.items():
        (programs / name).write_text(f"#!/bin/sh\n{text}\n")
        (programs / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:/usr/bin:/bin")
    return asked


def test_each_run_is_a_job_of_an_array(cluster, tmp_path, monkeypatch):
    runs = {tmp_path / name: Config() for name in "abc"}
    measured = {tmp_path / "a", tmp_path / "b"}
    monkeypatch.setattr(slurm, "is_measured", lambda path: path in measured)
    monkeypatch.setattr(slurm.time, "sleep", lambda seconds: interrupt())
    asked = {"time": "2:00:00", "gpus": "1", "cpus": "8", "partition": "gpu", "account": "me"}
    with pytest.raises(KeyboardInterrupt):
        train_on_slurm(runs, 2, {}, asked, tmp_path / "jobs")
    said = cluster.read_text()
    for line in ("array=0-2%2", "time=120", "gpus-per-node=1", "cpus-per-task=8", "account=me",
                 "partition=gpu", "job-name=detcenter"):  # fmt: skip
        assert f"#SBATCH --{line}\n" in said
    assert "scancel 12_2" in said and "scancel 12_0" not in said  # which is done


def interrupt():
    raise KeyboardInterrupt


def test_a_job_that_is_gone_without_a_result_has_failed(cluster, tmp_path):
    (tmp_path / "bin" / "squeue").write_text("#!/bin/sh\n")
    run = tmp_path / "a"
    failed = train_on_slurm({run: Config()}, None, {}, {"time": "1"}, tmp_path / "jobs")
    assert failed == {run: "job 12 has ended too early"}
    assert (run / "failed.txt").read_text() == "job 12 has ended too early\n"


def test_a_cluster_that_refuses_is_one_line(cluster, tmp_path):
    (tmp_path / "bin" / "sbatch").write_text("#!/bin/sh\necho invalid partition >&2; exit 1\n")
    with pytest.raises(ConfigError, match="--launcher slurm: .*invalid partition"):
        train_on_slurm({tmp_path / "a": Config()}, None, {}, {"time": "1"}, tmp_path / "jobs")


def test_without_slurm_it_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ConfigError, match="--launcher slurm: .*srun"):
        train_on_slurm({tmp_path / "a": Config()}, None, {}, {"time": "1"}, tmp_path / "jobs")


def test_a_job_whose_time_is_up_comes_again(tmp_path):
    job = Job({tmp_path / "a": Config()}, {})
    assert job.checkpoint().function is job


@pytest.fixture
def started(monkeypatch):
    """The claims of runs that would be started; the job is stopped then."""
    runs = []

    def stopped(config, claim, *rest):
        runs.append(claim)
        interrupt()

    monkeypatch.setattr(side_by_side, "started", stopped)
    monkeypatch.setattr(side_by_side, "_LOOK", 0.02)
    monkeypatch.setattr(claims, "EXPIRES", 0.3)
    return runs


def test_a_job_leaves_the_run_of_another_alone(tmp_path, started):
    claim = Claims([]).claim(tmp_path / "a")
    Job({tmp_path / "a": Config()}, {})()
    claim.check()
    claim.end()
    assert not started


def test_a_job_that_comes_again_takes_the_run_that_it_had_when_it_was_killed(tmp_path, started):
    Claims([]).claim(tmp_path / "a")._stop()
    with pytest.raises(RuntimeError, match="the job was told to stop"):
        Job({tmp_path / "a": Config()}, {})()
    assert len(started) == 1
    assert Claims([]).look(tmp_path / "a") is None  # it is free again


@pytest.mark.slow
def test_a_job_here(recipe, tmp_path, capsys, monkeypatch):
    """By submitit's local executor, which pickles it and starts it as its SLURM's does."""
    monkeypatch.setattr(slurm, "_LOOK", 0.5)
    args = ["--config", str(recipe), "--train.epochs", "1"]
    config, _ = parse_recipe(recipe_parser("detcenter train", ""), args)
    run, jobs = tmp_path / "run", tmp_path / "jobs"
    assert train_on_slurm({run: config}, None, {}, {"time": "10"}, jobs, "local") == {}
    assert f"jobs of SLURM: 1; what they print is in {jobs}\n{run}: done\n" in (
        capsys.readouterr().out
    )
    assert (run / "measured.json").exists() and not [*run.glob("claim.*")]
    assert "Job completed successfully" in next(jobs.glob("*/*_log.out")).read_text()
