"""A pool whose places lie on the machines of a Ray cluster; this process decides, and keeps the study.

Each place is an actor (_ray_worker.py) that holds a trial's share of a machine. It has one thing to do at a time, so
there is one answer to wait for from each. Where a node is lost, its actors are: what they computed goes back to the
queue and begins again where it last began, and new actors take their places as soon as the cluster has room.

States of paused trials lie in Ray's object store, on the node where they came about, and go from there to the node
where the trial goes on. What is lost with a node is computed again.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import sys
import time
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelopt_cli.core.errors import UsageError
from modelopt_cli.core.readable import plural
from modelopt_cli.tuning.executors import Event, Limits, Pool
from modelopt_cli.tuning.executors._paused_states import PausedStates, StateForm
from modelopt_cli.tuning.executors._ray_files import packed, put_back
from modelopt_cli.tuning.executors._ray_worker import Answer, Greeting, Place, RayWorker, Received, own_version
from modelopt_cli.tuning.executors._worker_process import resident_bytes

if TYPE_CHECKING:
    from modelopt_cli.tuning.executors._ray_cluster import Cluster
    from modelopt_cli.tuning.executors._trial_run import AncestorRun
    from modelopt_cli.tuning.objective import Folders
    from modelopt_cli.tuning.trials.trial import Trial

_LOOK = 0.5  # seconds between looks at whether anything can be computed at all
_FIRST = 10.0  # seconds in which the first worker should have begun before the search does
_LONELY = 3.0  # seconds without any worker, after which the user is told
_MOST_LOSSES = 3  # so often a trial's worker may be lost until the trial is thought to be the cause
_MOST_STILLBORN = 10  # workers in a row that were lost before they began
_STORE_SHARE = 0.3  # of the object stores' memory, which states of paused trials may take
_FETCH = 60.0  # seconds for a state to come from its node
_SIGN = ".seen-"  # what a file begins with that machines look for, to know whether they see ours
_END = 5.0  # seconds for workers to end what they do


@dataclass(frozen=True, eq=False)
class _State:
    """A packed state: in the object store, or (small, or read from a file) here."""

    reference: Any  # ObjectRef
    size: int
    content: bytes | None = None

    @property
    def sent(self) -> Any:
        """What a worker is given, which gets the bytes."""
        return self.reference if self.content is None else self.content


def _fetched(state: _State) -> bytes | None:
    import ray

    if state.content is not None:
        return state.content
    try:
        content: bytes = ray.get(state.reference, timeout=_FETCH)
        return content
    except ray.exceptions.RayError:  # lost with its node
        return None


_REMOTE = StateForm[_State](lambda state: state.size, _fetched, lambda content: _State(None, len(content), content))


@dataclass
class _Task:
    """A trial that is to be computed or stopped, and what it goes on from."""

    trial: Trial
    ancestors: Sequence[Trial]
    until: int | None
    stops: bool = False
    state: _State | None = None
    to_compute: tuple[AncestorRun, ...] = ()
    losses: int = 0  # of workers that had it
    only: _Worker | None = None  # whoever holds it as it is


@dataclass(eq=False)
class _Worker:
    """An actor as this process sees it."""

    actor: Any
    answer: Any  # the ObjectRef of what it was asked for; None: it has nothing to do
    ready: bool = False
    task: _Task | None = None
    waits: bool = False  # its trial waits for a decision
    holds: set[int] = field(default_factory=set)  # paused trials that have no state but their process there
    node: str = ""
    peak_bytes: int = 0

    @property
    def idle(self) -> bool:
        return self.ready and self.task is None and self.answer is None


class RayPool(Pool):
    """See the module docstring. `objective` is pickled, and goes to each node once. Closing it closes `cluster`."""

    def __init__(
        self,
        cluster: Cluster,
        objective: bytes,
        workers: int,
        limits: Limits,
        *,
        cpu: float,
        gpu: float,
        folders: Folders,
        folder: Path | None = None,
    ) -> None:
        """Raises UsageError for a cluster without room for a trial, and for nodes without this package."""
        import ray

        self._cluster, self._folders = cluster, folders
        self._signs: list[Path] = []
        self._sent: Any = None  # the ObjectRef of what trials find on disk, once a machine does not see it
        room = cluster.room(cpu, gpu)
        self._asked = workers
        variables = {name: value for name, value in os.environ.items() if name.startswith("MODELOPT_")}
        hidden = {} if gpu else {"CUDA_VISIBLE_DEVICES": ""}
        environment = {**variables, **hidden}
        surroundings = Place(
            limits, max(1, int(cpu)), str(Path.cwd()), tuple(sys.path), environment, folders, self._sign()
        )
        self._make = ray.remote(RayWorker).options(
            num_cpus=cpu, num_gpus=gpu, max_restarts=0, max_task_retries=0, scheduling_strategy="SPREAD"
        )
        self._given = ray.put(objective), surroundings
        self._workers: list[_Worker] = []
        self._queue: list[_Task] = []
        self._begun: dict[int, _Task] = {}  # trials under way -> as what they last began
        self._states = PausedStates(_REMOTE, int(_STORE_SHARE * cluster.state_memory()), folder)
        self._events: list[Event] = []
        self._news: list[str] = []
        self._lost: list[str] = []  # nodes of workers that were lost
        self._redone: dict[int, None] = {}  # trials that were begun again
        self._stillborn = 0
        self._alone_since: float | None = time.monotonic()
        self._told_alone = False
        self.slots = 1
        for _ in range(workers):
            self._hire()
        if room < workers:
            self._news.append(
                f"the Ray cluster has room for {room} of {workers} workers; others begin when it has more"
            )
        self._await_first()

    def _sign(self) -> str:
        """A file that machines look for: whoever does not see it does not see what trials find on disk either."""
        if not self._folders.left:
            return ""
        home = Path(self._folders.left[0].format(number=0, seed=0)).parent
        home.mkdir(parents=True, exist_ok=True)
        for sign in home.glob(f"{_SIGN}*"):  # of a process that was killed
            sign.unlink(missing_ok=True)
        self._signs.append(home / f"{_SIGN}{secrets.token_hex(8)}")
        self._signs[-1].touch()
        return str(self._signs[-1])

    def _hire(self) -> None:
        actor = self._make.remote(*self._given)
        self._workers.append(_Worker(actor, actor.greet.remote()))

    def _await_first(self) -> None:
        """What is wrong with all nodes is known before the first trial begins."""
        deadline = time.monotonic() + _FIRST
        try:
            while not any(worker.ready for worker in self._workers) and (left := deadline - time.monotonic()) > 0:
                self._listen(min(left, _LOOK))
        except BaseException:
            self._end_workers()
            raise

    # What the search asks for

    def start(self, trial: Trial, until: int | None, ancestors: Sequence[Trial] = ()) -> None:
        self._take_on(_Task(trial, ancestors, until))

    def stop(self, trial: Trial, ancestors: Sequence[Trial] = ()) -> None:
        self._take_on(_Task(trial, ancestors, None, stops=True))

    def _take_on(self, task: _Task) -> None:
        number = task.trial.number
        before = self._begun.get(number)
        if before is not None:
            task.state, task.to_compute, task.losses = before.state, before.to_compute, before.losses
        worker = next((worker for worker in self._workers if worker.task and worker.task.trial.number == number), None)
        if worker is not None:  # it waits there
            self._give(worker, task)
            return
        task.only = next((worker for worker in self._workers if number in worker.holds), None)
        if before is None:
            task.state, task.to_compute = self._states.of(task.trial, task.ancestors)
        else:  # its worker was lost while it waited
            self._redone[number] = None
        self._queue.append(task)
        self._hand_out()

    def _hand_out(self) -> None:
        """Whoever is idle gets the first trial of the queue that it may have."""
        for worker in [worker for worker in self._workers if worker.idle]:
            task = next((task for task in self._queue if task.only in (None, worker)), None)
            own = next((task for task in self._queue if task.only is worker), None)
            if own is not None or task is not None:
                chosen = own or task
                assert chosen is not None
                self._queue.remove(chosen)
                self._give(worker, chosen)

    def _give(self, worker: _Worker, task: _Task) -> None:
        trial = replace(task.trial, curve=task.trial.curve[-1:])  # all that it needs of what it has reported
        worker.task, worker.waits = task, False
        worker.holds.discard(trial.number)
        self._begun[trial.number] = task
        state = None if task.state is None else task.state.sent
        if task.stops:
            worker.answer = worker.actor.stop.remote(trial, state, task.to_compute)
        else:
            worker.answer = worker.actor.start.remote(trial, task.until, state, task.to_compute)

    def pause(self, number: int) -> None:
        import ray

        worker = next((worker for worker in self._workers if worker.task and worker.task.trial.number == number), None)
        if worker is None:  # lost while the trial waited: it will restart
            self._begun.pop(number, None)
            return
        self._begun.pop(number, None)
        described, reference = worker.actor.pause.options(num_returns=2).remote(number)
        try:
            step, size = ray.get(described)
        except ray.exceptions.RayActorError as error:
            self._dismiss(worker, error)
            return
        worker.task, worker.waits = None, False
        if size is None:
            worker.holds.add(number)
        else:
            self._states.put(number, step, _State(reference, size))

    def keep(self, numbers: Collection[int]) -> None:
        self._states.keep(numbers)

    def news(self) -> list[str]:
        news, self._news = self._news, []
        return news

    def remarks(self) -> list[str]:
        if not self._lost:
            return []
        nodes = ", ".join(dict.fromkeys(self._lost))
        begun = f"; begun again: {_trials(self._redone)}" if self._redone else ""
        return [f"lost while the search ran: {plural(len(self._lost), 'worker')} of the Ray cluster, on {nodes}{begun}"]

    # What comes from the workers

    def wait(self, seconds: float) -> list[Event]:
        deadline = time.monotonic() + seconds
        while not self._events and (left := deadline - time.monotonic()) > 0:
            self._listen(min(left, _LOOK))
        events, self._events = self._events, []
        return events

    def _listen(self, seconds: float) -> None:
        import ray

        awaited = {worker.answer: worker for worker in self._workers if worker.answer is not None}
        if awaited:
            ready, _ = ray.wait(list(awaited), num_returns=1, timeout=seconds)
            if ready and len(awaited) > 1:
                ready, _ = ray.wait(list(awaited), num_returns=len(awaited), timeout=0)
            for reference in ready:
                self._hear(awaited[reference], reference)
        else:
            time.sleep(seconds)
        self._hand_out()
        self._look_around()

    def _hear(self, worker: _Worker, reference: Any) -> None:
        import ray

        try:
            answer = ray.get(reference)
        except ray.exceptions.RayActorError as error:
            self._dismiss(worker, error)
            return
        except ray.exceptions.ObjectLostError:
            self._without_state(worker)
            return
        worker.answer = None
        if isinstance(answer, Greeting):
            self._welcome(worker, answer)
        elif isinstance(answer, Received):
            if answer.problem:
                raise UsageError(f"on {worker.node} of the Ray cluster: {answer.problem}")
            self._begins(worker)
        else:
            self._note(worker, answer)

    def _welcome(self, worker: _Worker, greeting: Greeting) -> None:
        import ray

        own, theirs = own_version() or "of no version", greeting.version or "of no version"
        if theirs != own:
            raise UsageError(
                f"{greeting.node} of the Ray cluster has modelopt-cli {theirs}, but this machine has {own}; install "
                "the same on all"
            )
        worker.node = greeting.node
        if greeting.sees:
            self._begins(worker)
            return
        if self._sent is None:
            self._sent = ray.put(packed(self._folders))
        worker.answer = worker.actor.receive.remote(self._sent)

    def _begins(self, worker: _Worker) -> None:
        worker.ready, self._stillborn = True, 0
        self._count()

    def _note(self, worker: _Worker, answer: Answer) -> None:
        if answer.problem:
            raise UsageError(f"on a node of the Ray cluster{_named(worker.node)}: {answer.problem}")
        if answer.output:
            with contextlib.suppress(OSError):  # as what worker processes here print
                os.write(2, answer.output)
        if answer.files:
            put_back(answer.files, self._folders)
        worker.peak_bytes = answer.peak_bytes
        held = sum(each.peak_bytes for each in self._workers)
        self.peak_bytes = max(self.peak_bytes, resident_bytes(os.getpid(), alone=True) + held)
        for event in answer.events:
            self._events.append(event)
            if event.done:
                self._begun.pop(event.number, None)
                worker.task = None
            worker.waits = event.waits
        if worker.task is not None and not worker.waits:
            worker.answer = worker.actor.more.remote()

    def _without_state(self, worker: _Worker) -> None:
        """The state that its trial was to go on from is lost; it goes on from what there is."""
        task, worker.task, worker.answer = worker.task, None, None
        assert task is not None
        if task.state is not None:
            self._states.lost(task.state)
        self._begun.pop(task.trial.number, None)
        task.state, task.to_compute = self._states.of(task.trial, task.ancestors)
        self._queue.insert(0, task)

    def _dismiss(self, worker: _Worker, error: Exception) -> None:
        """A worker is lost; what it computed is to be computed again, and another one takes its place."""
        import ray

        self._workers.remove(worker)
        with contextlib.suppress(Exception):  # it may be there still, and only not be reached
            ray.kill(worker.actor, no_restart=True)
        for task in self._queue:
            task.only = None if task.only is worker else task.only  # what it held is lost
        if not worker.ready:
            self._check_can_begin(error)
        else:
            self._lost.append(worker.node or "unknown node")
            self._news.append(f"a worker of the Ray cluster is lost: {_why(worker.node, error)}{_what(worker)}")
        if worker.task is not None and not worker.waits:
            self._again(worker.task, _why(worker.node, error))
        self._count()
        self._hire()

    def _again(self, task: _Task, why: str) -> None:
        number, task.losses, task.only = task.trial.number, task.losses + 1, None
        if task.losses >= _MOST_LOSSES:
            self._begun.pop(number, None)
            reason = f"its worker was lost {task.losses} times, so that the trial may be the cause; the last time {why}"
            self._events.append(Event(number, done=True, failure="crash", reason=reason))
        else:
            self._redone[number] = None
            self._queue.insert(0, task)

    def _check_can_begin(self, error: Exception) -> None:
        """Raise UsageError where workers cannot begin at all."""
        text = str(error)
        if "No module named 'modelopt_cli'" in text:
            version = own_version()
            package = f"modelopt-cli=={version}" if version else "modelopt-cli"
            raise UsageError(
                "a node of the Ray cluster cannot import modelopt_cli; install it there, in the environment that Ray "
                f"runs in (pip install '{package}', with the extras that the experiment needs)"
            )
        self._stillborn += 1
        if "creation task" in text or self._stillborn >= _MOST_STILLBORN:
            last = text.strip().splitlines()[-1].strip()
            raise UsageError(f"workers cannot begin on the Ray cluster: {last}")

    def _count(self) -> None:
        """There is one slot at least: its trial waits until there is a worker again."""
        self.slots = max(1, sum(worker.ready for worker in self._workers))

    def _look_around(self) -> None:
        """Tell when there is no worker any more, and when there is one again."""
        if any(worker.ready for worker in self._workers):
            if self._told_alone:
                self._news.append("the Ray cluster has room for trials again")
            self._alone_since, self._told_alone = None, False
            return
        self._alone_since = self._alone_since or time.monotonic()
        if not self._told_alone and time.monotonic() - self._alone_since > _LONELY:
            self._told_alone = True
            waiting = _trials(task.trial.number for task in self._queue)
            self._news.append(
                f"no machine of the Ray cluster has room for a trial now; {waiting or 'the search'} waits for one, "
                "until tuning.timeout"
            )

    def close(self) -> None:
        self._end_workers()
        for sign in self._signs:
            sign.unlink(missing_ok=True)
        self._states.close()
        self._cluster.close()

    def _end_workers(self) -> None:
        import ray

        with contextlib.suppress(Exception):  # the cluster itself may be gone
            ending = [worker.actor.close.remote() for worker in self._workers if worker.ready]
            if ending:
                ray.wait(ending, num_returns=len(ending), timeout=_END)
        for worker in self._workers:
            with contextlib.suppress(Exception):
                ray.kill(worker.actor, no_restart=True)
        self._workers.clear()
        self._queue.clear()


def _why(node: str, error: Exception) -> str:
    text = str(error)
    if "node has died" in text or "node was terminated" in text:
        return f"its node{_named(node)} is gone"
    return f"its process{f' on {node}' if node else ''} ended, or cannot be reached any more"


def _named(node: str) -> str:
    return f" {node}" if node else ""


def _what(worker: _Worker) -> str:
    if worker.task is None:
        return ""
    return f"; trial {worker.task.trial.number}, which it had, goes back to the queue"


def _trials(numbers: Iterable[int]) -> str:
    listed = list(numbers)
    if not listed:
        return ""
    return f"trial{'s' * (len(listed) > 1)} {', '.join(map(str, listed[:20]))}{' ...' * (len(listed) > 20)}"
