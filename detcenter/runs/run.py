"""A run: the loop over epochs and steps, and what happens between them."""

import dataclasses
import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from accelerate.utils import broadcast_object_list, set_seed

from detcenter.data import build_transform, kept_images
from detcenter.evaluation import (
    evaluate_detections,
    flat_numbers,
    frequency_groups,
    groups_in,
    results_table,
)
from detcenter.recipe.config import Config
from detcenter.recipe.datasets import (
    check_backend,
    training_set,
    validation_set,
    warn_of_copies,
)
from detcenter.recipe.detectors import builder_arguments
from detcenter.recipe.layouts import resolved
from detcenter.runs.collapse import Watch
from detcenter.runs.folder import (
    LAST,
    check_folder,
    clear_folder,
    clear_results,
    has_checkpoint,
    write_whole,
)
from detcenter.runs.passes import augmentation, detect_together, input_size, remark_limits
from detcenter.runs.preparation import (
    accelerator_for,
    average_for,
    batches_for,
    compile_in_place,
    keep_decoded,
    loader_for,
    model_for,
    optimizer_for,
    parallel,
    schedule_for,
)
from detcenter.runs.results import progress_bar, write_results
from detcenter.runs.state import RunState
from detcenter.runs.trackers import check_trackers, open_trackers
from detcenter.training import (
    NotFiniteError,
    OverflowedStep,
    RunRecords,
    Stopped,
    StopRequest,
    TrainingError,
    describe_losses,
    peak_memory_mib,
    stop_request,
    taken_back,
    train_step,
)

_REPORT_EVERY = 10  # steps
_MOST_SKIPPED = 10  # steps one after the other, of losses that are not finite


def train(
    config: Config,
    folder: Path,
    resume: bool = False,
    overwrite: bool = False,
    on_step: Callable[[int, float], None] | None = None,
    before_write: Callable[[], None] | None = None,
) -> Mapping[str, Any]:
    """Train as ``config`` says and return the metrics of the last epoch.

    ``folder`` gets the resolved recipe (``config.yaml``), ``metrics.csv``, what trackers
    write, ``last.pth`` and ``best.pth``, ``results.json``, and the detections in the validation
    images, as numbers and as a picture.

    Args:
        on_step: called after every step with its images and the seconds it took, loading included.
        before_write: called before anything in ``folder`` changes; what it raises ends the run.

    Raises:
        Stopped: after SIGINT or SIGTERM, when what ``resume`` needs is saved.
    """
    with kept_images() if config.data.cache == "ram" else nullcontext() as memory:
        run = Run(config, folder, resume, overwrite, memory, on_step, before_write)
        with stop_request() as request, run.progress:
            try:
                while run.state.epochs_done < config.train.epochs:
                    run.epoch(request)
                return run.finish()
            except Stopped:
                run.save(LAST)
                raise


class Run:
    """The objects of one run, where it is, and what happens to them in an epoch.

    What a step draws (proposals, say) follows from the seed, the step and the process, so that a
    run that is taken up again needs no state of any generator.
    """

    def __init__(
        self,
        config: Config,
        folder: Path,
        resume: bool,
        overwrite: bool,
        memory: Path | None = None,
        on_step: Callable[[int, float], None] | None = None,
        before_write: Callable[[], None] | None = None,
    ) -> None:
        check_folder(folder, resume, overwrite)
        check_backend(config.evaluation)
        check_trackers(config.train.trackers)
        training = config.train
        self.accelerator = accelerator_for(training.mixed_precision, folder)
        self.alone = self.accelerator.num_processes == 1
        self.main = self.accelerator.is_main_process
        # The digits are made by one process; what is there all read at once, see also `look_at`.
        made = config.data.format == "digits"
        with self.accelerator.main_process_first() if made else nullcontext():
            config = dataclasses.replace(config, data=resolved(config.data))
            self.train_set = training_set(config.data)
            self.classes = self.train_set.classes
            self.val_set = validation_set(config.data, self.classes)
            counted = frequency_groups(self.train_set.annotations, self.classes)
            self.frequency = counted | groups_in(self.train_set.categories, self.classes)
        if self.main:
            warn_of_copies(config.data, self.train_set, self.val_set)
        self.config, self.folder, self.on_step = config, folder, on_step
        self.before_write = before_write or (lambda: None)
        self.builder = builder_arguments(config.model, self.classes)
        self.batches = batches_for(len(self.train_set), training, self.accelerator)
        set_seed(training.seed)
        continued = resume and has_checkpoint(folder)
        device = self.accelerator.device
        model = model_for(config, self.builder, self.batches, device, not continued)
        self.train_set.transform = augmentation(config.data.augment, model)
        self.val_set.transform = build_transform(input_size(model), "none")
        if memory is not None:
            keep_decoded([self.train_set, self.val_set], memory, say=self.main)
        self.loader = loader_for(self.train_set, self.batches, config.data.workers, device)
        optimizer = optimizer_for(model, training)
        schedule = schedule_for(training, optimizer, self.batches.steps)
        self.state = RunState(
            model,
            average_for(model, training),
            # The model itself stays as it is: prepared, it would run under autocast in evaluation.
            self.accelerator.prepare(optimizer),
            schedule,
            self.accelerator.scaler,
            Watch(model),
        )
        if self.main:
            remark_limits(self.val_set, config.evaluation.max_detections, model)
        if training.compile:
            compile_in_place(model)
        self.metrics: Mapping[str, Any] = {}
        self.detections: Sequence[dict[str, Any]] = []
        rows = self._take_up() if continued else []
        self.parallel = parallel(model, self.accelerator)
        self._open_folder(rows, clear=overwrite and not resume)
        a_step, steps = self.batches.images_a_step, self.batches.steps
        self.progress = progress_bar(
            training.epochs * steps * a_step,
            (self.state.epochs_done * steps + self.state.step) * a_step,
            shown=self.main,
        )
        self.saved = time.monotonic()

    def epoch(self, request: StopRequest) -> None:
        """Train, or finish training, an epoch; evaluate if it is time to, report and save."""
        start, epoch = time.monotonic(), self.state.epochs_done + 1
        self.progress.set_description_str(f"{epoch}/{self.config.train.epochs}", refresh=False)
        begun = self.state.step
        self._train(epoch, request)
        step_seconds = (time.monotonic() - start) / max(1, self.state.step - begun)
        self.metrics = {}
        if epoch % self.config.train.eval_every == 0 or epoch == self.config.train.epochs:
            self.evaluate(request)
        cost = {
            "seconds": time.monotonic() - start,
            "step_seconds": step_seconds,
            "memory_mib": peak_memory_mib(self.accelerator.device),
        }
        self._report(epoch, cost)
        self.state.end_epoch()
        if self._is_best():
            self.save("best.pth")
        self.save(LAST)

    def _train(self, epoch: int, request: StopRequest) -> None:
        """The steps of ``epoch`` that are left."""
        self.batches.epoch, self.batches.start = epoch, self.state.step
        self.parallel.train()
        passes, begun = iter(self.loader), time.monotonic()
        for group in zip(*[passes] * self.config.train.accumulate, strict=True):
            self._seed(epoch)
            self._step(group)
            self.state.step += 1
            if self.state.step % _REPORT_EVERY == 1:
                text = describe_losses(self.state.means.means())
                self.progress.set_postfix_str(text, refresh=False)
            self.progress.update(self.batches.images_a_step)
            if self.on_step is not None:
                self.on_step(self.batches.images_a_step, time.monotonic() - begun)
            self._look_up(request)
            begun = time.monotonic()

    def _step(self, group: tuple[Any, ...]) -> None:
        skip = self.config.train.on_nan == "skip"
        clip = self.config.train.clip_grad_norm
        may_fail = skip or self.state.scaler is not None
        try:
            with taken_back(self.state.model) if may_fail else nullcontext():
                losses = train_step(
                    self.parallel, group, self.state.optimizer, self.accelerator, clip, self._weigh
                )
        except OverflowedStep:
            return
        except NotFiniteError as error:
            self._skip(error, skip)
        else:
            self.state.skipped = 0
            self.state.means.add(losses)
            if self.state.average is not None:
                self.state.average.update_parameters(self.state.model)
        self.state.schedule.step()

    def _weigh(self) -> Any:
        """What a pass counts: where losses are exact, as much as it has positive boxes."""
        if not self.config.train.exact_losses:
            return 1.0
        multibox: Any = self.state.model.multibox
        return multibox.positives

    def _skip(self, error: NotFiniteError, allowed: bool) -> None:
        names = {a["image_id"]: a["path"].name for a in self.train_set.annotations}
        images = ", ".join(names.get(i, str(i)) for i in error.image_ids)
        values = ", ".join(f"{name} {value:.3g}" for name, value in error.losses.items())
        what = f"the loss is not finite ({values}) in a step with the images {images}"
        self.state.skipped += 1
        if not allowed or self.state.skipped > _MOST_SKIPPED:
            raise TrainingError(
                f"{what}; lower train.lr, set train.clip_grad_norm, or look at the boxes of these "
                "images; the last checkpoint is intact"
            ) from None
        self.progress.write(f"skipped: {what}")

    def _seed(self, epoch: int) -> None:
        place = [self.config.train.seed, epoch, self.state.step, self.accelerator.process_index]
        set_seed(int(np.random.SeedSequence(place).generate_state(1)[0]))

    def _look_up(self, request: StopRequest) -> None:
        """Between two steps: stop if that is asked for, save if it is time to."""
        if self.alone:
            request.check()
        elif self.state.step % _REPORT_EVERY == 0:
            request.check_together(self.accelerator.device)
        every = self.config.train.save_every_steps
        late = time.monotonic() - self.saved > 60 * self.config.train.save_every_minutes
        if late or (every is not None and self.state.step % every == 0):
            self.save(LAST)

    def evaluate(self, request: StopRequest | None = None) -> None:
        """In several processes each takes its part of the images, and every image counts once."""

        def stoppable(batches: Iterable[Any]) -> Iterator[Any]:
            for batch in batches:
                if request is not None and self.alone:
                    request.check()
                yield batch

        self.detections = detect_together(
            self.val_set,
            self.state.trained,
            self.config.train.batch_size,
            self.config.data.workers,
            self.accelerator,
            stoppable,
        )
        metrics: list[dict[str, Any] | None] = [self._measured() if self.main else None]
        broadcast_object_list(metrics)
        assert metrics[0] is not None
        self.metrics = metrics[0]
        best = {name: of["threshold"] for name, of in self.metrics["best_by_class"].items()}
        self.state.thresholds = {k: score for k, score in best.items() if not math.isnan(score)}

    def _measured(self) -> dict[str, Any]:
        chosen = self.config.evaluation
        return evaluate_detections(
            self.val_set.annotations,
            self.detections,
            self.classes,
            chosen.backend,
            chosen.score,
            chosen.max_detections,
            chosen.iou,
            self.frequency,
        )

    def finish(self) -> Mapping[str, Any]:
        """Write the results and the picture, print the table, return the metrics."""
        if not self.metrics:
            epochs = self.state.epochs_done
            self.say(f"the run was complete after {epochs} epochs; evaluating it again")
            self.evaluate()
            self.save(LAST)  # with the thresholds
        self.accelerator.end_training()
        if self.main:
            self.before_write()
            write_results(self.folder, self.val_set, self.detections, self.metrics)
        self.say(results_table(self.metrics, self.classes))
        self.say(f"run folder: {self.folder}")
        return self.metrics

    def save(self, name: str) -> None:
        self.saved = time.monotonic()
        if self.main:
            self.state.save(
                self.folder / name,
                self.config,
                self.builder,
                self.classes,
                self.frequency,
                self.batches.images_a_step,
                self.records.rows,
                self.before_write,
            )

    def _take_up(self) -> list[dict[str, str]]:
        images_a_step = self.batches.images_a_step
        rows, damage = self.state.take_up(self.folder, self.config, self.classes, images_a_step)
        if damage is not None:
            self.say(damage)
        return rows

    def _is_best(self) -> bool:
        if not self.metrics:
            return False
        # nan, of validation images without objects, counts as the worst
        ap = -1.0 if math.isnan(self.metrics["AP"]) else self.metrics["AP"]
        better, self.state.best = ap > self.state.best, max(ap, self.state.best)
        return better

    def _report(self, epoch: int, cost: dict[str, float]) -> None:
        self.before_write()
        losses = self.state.means.means()
        found = flat_numbers(self.metrics)
        # The last group is of the head; a backbone's rate may be a part of that.
        numbers = {"lr": self.state.schedule.get_last_lr()[-1]} | cost
        features = self.state.watch.numbers(self.classes)
        numbers |= {f"train/{k}": v for k, v in (losses | features).items()}
        self.records.add(epoch, numbers | found)
        shown = "".join(f"  {k} {found[k]:.3f}" for k in ("AP", "AP50") if k in found)
        line = f"epoch {epoch}/{self.config.train.epochs}  {describe_losses(losses)}{shown}"
        if self.main:
            self.progress.write(f"{line}  {cost['seconds']:.1f} s")

    def say(self, text: str) -> None:
        if self.main:
            print(text)

    def _open_folder(self, rows: list[dict[str, str]], clear: bool) -> None:
        """From here on the folder is this run's; nothing was written or deleted before."""
        self.before_write()
        if self.main:
            if clear:
                clear_folder(self.folder)
            self.folder.mkdir(parents=True, exist_ok=True)
            clear_results(self.folder)
            text = yaml.safe_dump(dataclasses.asdict(self.config), sort_keys=False)
            write_whole(self.folder / "config.yaml", text)
        open_trackers(self.accelerator, self.config, self.folder, self.state.epochs_done)
        self.records = RunRecords(self.folder, self.accelerator, rows)
