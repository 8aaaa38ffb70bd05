"""A small program that runs another one and leaves nothing of it: supervised.py starts it, by its path.

    python -I -S supervisor.py PARENT STATUS GRACE PROGRAM ARGUMENT...

It imports next to nothing, so that it watches from the very beginning, while the program may still be importing torch.
When the parent dies, or asks with SIGTERM, the program's process group gets SIGTERM; what is left when the program has
ended, or after GRACE seconds, is killed: on Linux all its descendants, also those that left its group and session
(daemons), because they fall back to their nearest subreaper, which is this process. Elsewhere it is the group alone.

What happens is written to the descriptor STATUS, a line each: `started PID`, or `failed ERRNO` where there is no such
program, and `ended CODE` (negative: by that signal). This process ends as the program did, once nothing is left of it.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence

_PARENT_DEATH_SIGNAL, _CHILD_SUBREAPER = 1, 36  # of prctl, Linux
_LOOK = 0.5  # seconds between looks at the parent, where no signal tells that it has gone
_LEFT_ALONE = 1.0  # seconds that the program has to end by itself when the parent is dead
_PATIENCE = 5.0  # seconds of killing, after which whatever withstands is left
_ASKED = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
_HEARD = (*_ASKED, signal.SIGCHLD)


def main(parent: int, status: int, grace: float, program: Sequence[str]) -> int:
    """Run `program`; its exit code, negative for a signal."""
    signal.pthread_sigmask(signal.SIG_BLOCK, _HEARD)
    prctl = _prctl()
    prctl(_PARENT_DEATH_SIGNAL, signal.SIGTERM)
    prctl(_CHILD_SUBREAPER, 1)
    if os.getppid() != parent:  # it died before we could ask to be told
        return 1
    child, problem = _started(program, prctl)
    _let_go(status)
    if problem:
        _tell(status, f"failed {problem}")
        return 127
    _tell(status, f"started {child}")
    return _watched(child, parent, status, grace)


def _prctl() -> Callable[[int, int], object]:
    """Linux's prctl; elsewhere what does nothing."""
    with contextlib.suppress(ImportError, OSError, AttributeError):
        import ctypes

        function: Callable[[int, int], object] = ctypes.CDLL(None).prctl
        return function
    return lambda option, value: None


def _started(program: Sequence[str], prctl: Callable[[int, int], object]) -> tuple[int, int]:
    """(the program's process, 0), or (0, errno) when it cannot be started."""
    reader, writer = os.pipe()  # closed by a successful exec
    supervisor = os.getpid()
    child = os.fork()
    if child == 0:
        try:
            os.setsid()
            prctl(_PARENT_DEATH_SIGNAL, signal.SIGKILL)
            if os.getppid() == supervisor:
                for name in ("SIGPIPE", "SIGXFSZ"):  # Python ignores them, and a program would inherit that
                    signal.signal(getattr(signal, name), signal.SIG_DFL)
                signal.pthread_sigmask(signal.SIG_UNBLOCK, _HEARD)
                os.execvp(program[0], list(program))
        except OSError as error:
            os.write(writer, str(error.errno or 1).encode())
        finally:
            os._exit(127)
    os.close(writer)
    problem = os.read(reader, 16)
    os.close(reader)
    if problem:
        os.waitpid(child, 0)
    return child, int(problem or b"0")


def _let_go(status: int) -> None:
    """Close all but `status`: who reads what the program writes must see its end."""
    nothing = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(nothing, descriptor)
    for name in os.listdir("/dev/fd"):  # noqa: PTH208  (pathlib takes longer to import than all of this)
        if int(name) > 2 and int(name) != status:
            with contextlib.suppress(OSError):
                os.close(int(name))


def _tell(status: int, line: str) -> None:
    with contextlib.suppress(OSError):  # nobody listens any more
        os.write(status, f"{line}\n".encode())


def _watched(child: int, parent: int, status: int, grace: float) -> int:
    code: int | None = None
    deadline: float | None = None  # when what is left is killed; None: nobody has asked for an end
    while True:
        heard = _next_signal(_LOOK if deadline is None else 0.02)
        ended, left = _reaped(child)
        if ended is not None:
            code = ended
            _tell(status, f"ended {code}")
        if not left:
            return 1 if code is None else code
        alone = os.getppid() != parent
        if heard in _ASKED or (alone and deadline is None):
            patience = _LEFT_ALONE if alone else 0.0 if deadline is not None else grace  # asked twice: at once
            deadline = time.monotonic() + patience
            for number in (signal.SIGTERM, signal.SIGCONT):  # one that is suspended hears nothing else
                with contextlib.suppress(OSError):
                    os.killpg(child, number)
        if deadline is not None and (code is not None or time.monotonic() > deadline):
            return _killed(child, status, code)


def _next_signal(seconds: float) -> int | None:
    if hasattr(signal, "sigtimedwait"):
        arrived = signal.sigtimedwait(_HEARD, seconds)
        return None if arrived is None else arrived.si_signo
    end = time.monotonic() + seconds
    while not signal.sigpending() & set(_HEARD):
        if time.monotonic() > end:
            return None
        time.sleep(0.02)
    return signal.sigwait(_HEARD)


def _reaped(child: int) -> tuple[int | None, bool]:
    """(the program's exit code, where it has ended just now; whether any process is left)."""
    code = None
    while True:
        try:
            process, raw = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return code, False
        if process == 0:
            return code, True
        if process == child:
            code = os.waitstatus_to_exitcode(raw)


def _killed(child: int, status: int, code: int | None) -> int:
    """Kill all that is left: who loses its parent thereby becomes a child of this process, and is next."""
    end = time.monotonic() + _PATIENCE
    while time.monotonic() < end:
        with contextlib.suppress(OSError):
            os.killpg(child, signal.SIGKILL)
        for process in _children():
            with contextlib.suppress(OSError):
                os.kill(process, signal.SIGKILL)
        ended, left = _reaped(child)
        if ended is not None:
            code = ended
            _tell(status, f"ended {code}")
        if not left:
            break
        time.sleep(0.01)
    return -signal.SIGKILL if code is None else code


def _children() -> list[int]:
    """Processes whose parent this one is; none known where there is no /proc."""
    children = []
    own = os.getpid()
    try:
        names = os.listdir("/proc")  # noqa: PTH208
    except OSError:
        return []
    for name in names:
        if name.isdigit():
            with contextlib.suppress(OSError, ValueError, IndexError):
                with open(f"/proc/{name}/stat", "rb") as stream:  # noqa: PTH123
                    parent = int(stream.read().rpartition(b")")[2].split()[1])
                if parent == own:
                    children.append(int(name))
    return children


def _leave(code: int) -> None:
    """End as the program did."""
    if code < 0:
        with contextlib.suppress(ImportError, OSError, ValueError):
            import resource

            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # one dump is enough
        with contextlib.suppress(OSError):
            if -code not in (signal.SIGKILL, signal.SIGSTOP):
                signal.signal(-code, signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, [-code])
            os.kill(os.getpid(), -code)
    os._exit(code if code >= 0 else 128 - code)


if __name__ == "__main__":
    _leave(main(int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]), sys.argv[4:]))
