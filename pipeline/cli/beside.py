"""Trainings beside each other: where one leaves cores idle, its stage lets others run that DVC will ask for later.

DVC runs one stage after another. With small students, starting a process and making batches cost more than the steps,
and leave most cores idle. So the first training of a `dvc repro` starts processes that train the others (`worker`), and
trains others itself when it is done. All leave the finished files in `.work/` for the stages of these trainings
(`left_files`).
"""

import json
import re
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click
import psutil

from pipeline.cli import orphan, pending, room
from pipeline.cli.left_files import Training, is_left
from pipeline.cli.worker import DONE, is_trained
from pipeline.runtime.cores import usable_cores
from pipeline.runtime.errors import DamagedError, MismatchError
from pipeline.runtime.workspace import in_a_copy, source, work_folder

if TYPE_CHECKING:
    from pipeline.params.sections import Params

LEAVE = "--leave-finished"
"""The option of a training that a training started: it publishes nothing."""

COMMAND = re.compile(r"python -m pipeline (train-(?:student|baseline)(?: [-\w.=]+)*)")
"""The command of a stage that a worker can do: as dvc.yaml has it, without a shell's other words."""

THREADS = 32
"""The most processes that train beside this one; each has a thread that waits for it."""

STOP_SECONDS = 10.0
"""How long a worker may take to end when it is told to."""
WORKER = [sys.executable, "-m", "pipeline.cli.worker"]
FAILED = "failed; its own stage will try again and say why"


@dataclass(frozen=True)
class Course:
    """How a training is run.

    Attributes:
        params: the parameters of its stage.
        watch: what to call after each epoch with the number of those to come; None: nothing.
        note: with which note it leaves its files in `.work/`; None: it publishes them.
    """

    params: "Params"
    watch: Callable[[int], object] | None = None
    note: str | None = None


@contextmanager
def trained(training: Training, read: Callable[[], "Params"], leave_finished: bool) -> Iterator[Course | None]:
    """How to run a training; None if its files were left in `.work/` and are published now.

    After the block it waits for the trainings that were started beside this one. They end if the block fails.

    Args:
        training: the training.
        read: reads the parameters of its stage.
        leave_finished: whether another training has started this one.

    Raises:
        click.UsageError: it shall leave its files, and no other training has started it.
        MismatchError: parameters, code or data have changed while it waited.
    """
    params = read()
    dvc = orphan.dvc_process()
    note = None if dvc is None else training.note(params, dvc)
    if leave_finished:
        if note is None:
            raise click.UsageError(f"{LEAVE} is for a training that another training starts. Run it without.")
        yield Course(params, note=note)
        return
    if note is not None and training.take(note):
        yield None
        return
    at_once = params.student.trainings_at_once
    if dvc is None or at_once == 1 or in_a_copy() or not orphan.runs_everything(dvc):
        yield Course(params)
        return
    others = Others(at_once, training.output, dvc)
    try:
        yield Course(params, watch=others.after_epoch)
        others.wait()
        # DVC notes when the stage ends, and not when it began, from what its outputs were made.
        if others.begun and training.note(read(), dvc, source()) != note:
            raise MismatchError(
                f"params.yaml, the code or data were changed while trainings ran beside that of {training.output}: DVC "
                "would take the model for one of the new ones. Run `dvc repro` again; what still holds is in .work/."
            )
    finally:
        others.stop()


class Others:
    """The trainings that run beside this one.

    A first process for them is started at once where a core is left for it: it loads TensorFlow while this training
    traces its graph and is measured.

    Args:
        at_once: how many run at the same time, this one included.
        own: the `.keras` file of this one.
        dvc: the process of DVC that runs it.
    """

    def __init__(self, at_once: int | Literal["auto"], own: Path, dvc: psutil.Process) -> None:
        self._at_once, self._own, self._dvc = at_once, own, dvc
        self._measured = room.FirstEpochs()
        self._to_do = deque[pending.Stage]()
        self.begun, self._stopped, self._lock = False, False, threading.Lock()
        self._workers: list[subprocess.Popen[str]] = []
        self._waiting: subprocess.Popen[str] | None = None
        self._ends: list[Future[None]] = []
        self._pool = ThreadPoolExecutor(THREADS)
        self._foreseen = self._pool.submit(self._prepare)

    def after_epoch(self, to_come: int) -> None:
        """Starts the others as soon as it is known how many fit.

        Args:
            to_come: how many epochs of this training are to come.
        """
        if self.begun:
            return
        at_once = self._that_fit(to_come)
        if at_once == 1:
            self._dismiss()
        elif at_once is not None:
            self.begun = True
            if stages := self._foreseen.result():
                self._start(stages, at_once)

    def wait(self) -> None:
        """Trains in this process, too, now that it is free, and returns when all are done."""
        if not self._ends:
            return
        while (stage := self._next()) is not None:
            self._tell_end(stage, is_trained([*words_of(stage), LEAVE]))
        if not all(end.done() for end in self._ends):
            _tell(f"{self._own} is done; waiting for the trainings beside it, which write to {log_file()}")
        for end in self._ends:
            end.result()

    def stop(self) -> None:
        """Ends those that run, and starts no more. They keep their epochs."""
        with self._lock:
            self._stopped = True
            for worker in self._workers:
                worker.terminate()
            for worker in self._workers:
                try:
                    worker.wait(STOP_SECONDS)
                except subprocess.TimeoutExpired:
                    worker.kill()
        self._pool.shutdown()

    def _that_fit(self, to_come: int) -> int | None:
        from pipeline.runtime.devices import accelerators, device_names

        if len(accelerators()) > 1:  # a training takes all of them, with all of their memory
            return 1
        if self._at_once != "auto":
            return self._at_once
        return self._measured.after_epoch(to_come) if device_names() == ["CPU"] else 1

    def _prepare(self) -> list[pending.Stage]:
        """Foresees the others, and starts a process for them."""
        stages = foreseen(self._own, self._dvc)
        if stages and usable_cores() >= 2:
            self._waiting = self._new_worker()
        return stages

    def _dismiss(self) -> None:
        """Ends the process that waits for the others."""
        self._foreseen.result()
        if self._waiting is not None:
            self._waiting.communicate()
            self._waiting = None

    def _start(self, stages: Sequence[pending.Stage], at_once: int) -> None:
        _tell(
            f"{len(stages)} other training(s) run beside this one, {at_once} at a time; their stages will publish them "
            "(student.trainings_at_once)"
        )
        self._to_do.extend(stages)
        self._ends = [self._pool.submit(self._work) for _ in range(min(at_once - 1, len(stages), THREADS))]

    def _work(self) -> None:
        """Lets one process after another train, as long as there is something to train; mostly one does all."""
        with self._lock:
            worker, self._waiting = self._waiting, None
        while (stage := self._next()) is not None:
            if worker is None or worker.poll() is not None:
                worker = self._new_worker()
            self._tell_end(stage, worker is not None and _asked(worker, stage))
        if worker is not None and worker.poll() is None:
            worker.communicate()  # it ends with its input

    def _tell_end(self, stage: pending.Stage, is_done: bool) -> None:
        if not self._stopped:
            _tell(f"{stage.name}: {'trained' if is_done else FAILED}")

    def _next(self) -> pending.Stage | None:
        with self._lock:
            return self._to_do.popleft() if self._to_do and not self._stopped else None

    def _new_worker(self) -> "subprocess.Popen[str] | None":
        with self._lock:
            if self._stopped:
                return None
            # In a session of its own: Ctrl-C goes to the stage that DVC runs, which ends the others.
            try:
                log_file().parent.mkdir(exist_ok=True)
                with log_file().open("ab") as log:
                    worker = subprocess.Popen(
                        WORKER,
                        stdin=subprocess.PIPE,
                        stdout=subprocess.PIPE,
                        stderr=log,
                        text=True,
                        start_new_session=True,
                    )
            except OSError:
                return None
            self._workers.append(worker)
            return worker


def _asked(worker: "subprocess.Popen[str]", stage: pending.Stage) -> bool:
    """Whether a worker has done the training of a stage."""
    answer = ""
    with suppress(OSError):  # it has ended
        print(json.dumps([*words_of(stage), LEAVE]), file=worker.stdin, flush=True)
        answer = worker.stdout.readline()  # type: ignore[union-attr]
    if not answer:
        worker.communicate()  # until it has ended; closes the pipes
    return answer.strip() == DONE


def words_of(stage: pending.Stage) -> list[str]:
    """The words of a stage's command."""
    return stage.command.removeprefix("python -m pipeline ").split()


def foreseen(own: Path, dvc: psutil.Process) -> list[pending.Stage]:
    """The trainings that DVC will run after this one, without those that are done; none where that cannot be told."""
    from pipeline.runtime.yaml_files import read_yaml

    try:
        pipeline, params, lock = (read_yaml(Path(name), "") for name in ("dvc.yaml", "params.yaml", "dvc.lock"))
        stages = [stage for stage in pending.pending(pipeline, params, lock, own) if COMMAND.fullmatch(stage.command)]
        return [stage for stage in stages if not is_left(Path(stage.outs[0]), dvc)]
    except (OSError, DamagedError, LookupError, TypeError, AttributeError, ValueError):
        return []


def log_file() -> Path:
    """Where the trainings beside others tell how they go."""
    return work_folder() / "beside.log"


def _tell(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
