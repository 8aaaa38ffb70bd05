"""A module compiled by torch.compile within a time limit, or why it is not.

Compiling runs in this thread and cannot be asked to stop, so an exception is raised in it from outside when the time is
up (as from Ctrl-C); where a C++ compiler is at work just then, its end is waited for.
"""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

from torch import Tensor, nn

from modelopt_cli.core.errors import UsageError
from modelopt_cli.models.graph.capture import silent

_VERSIONS = 64  # of one module's code that torch keeps: beyond its usual 8 it would go back to running eagerly


class _TimeIsUp(BaseException):
    """Raised in the thread that compiles. No Exception, as torch takes those for failures of its own passes."""


def compiled_for(module: nn.Module, inputs: Tensor, seconds: float) -> Callable[[Tensor], object]:
    """The module compiled for batches of this size, and run once; torch's number of threads is part of the code.

    Raises UsageError where torch.compile fails or takes longer than `seconds`. `forget` gives the memory back.
    """
    with silent():
        import torch._dynamo
        import torch._inductor.compile_fx  # seconds, which are no compiling, and must not be broken off in the middle
        from torch._dynamo import config
    if config.disable:
        raise UsageError("torch.compile is switched off (TORCH_COMPILE_DISABLE or TORCHDYNAMO_DISABLE)")
    try:
        with silent(), _alone():
            fast: Callable[[Tensor], object] = torch.compile(module, dynamic=False)
            with _within(seconds):
                fast(inputs)
    except _TimeIsUp:
        raise UsageError(f"torch.compile took longer than {seconds:g} s") from None
    except Exception as error:
        raise UsageError(f"torch.compile does not work for it: {_reason(error)}") from error
    return fast


def forget() -> None:
    """Drop all that was compiled in this process."""
    import torch._dynamo

    torch._dynamo.reset()


@contextmanager
def _alone() -> Iterator[None]:
    """In this process, without helpers that would go on running; and never back to eager without a word."""
    from torch._dynamo import config
    from torch._inductor import config as inductor

    name = "recompile_limit" if hasattr(config, "recompile_limit") else "cache_size_limit"  # before torch 2.6
    with ExitStack() as stack:
        stack.enter_context(inductor.patch(compile_threads=1))
        stack.enter_context(config.patch({name: _VERSIONS, "suppress_errors": False}))
        yield


@contextmanager
def _within(seconds: float) -> Iterator[None]:
    """Raise _TimeIsUp in this thread after so many seconds, as soon as it runs Python again."""
    thread, lock, ended = ctypes.c_ulong(threading.get_ident()), threading.Lock(), False

    def interrupt() -> None:
        with lock:
            if not ended:
                ctypes.pythonapi.PyThreadState_SetAsyncExc(thread, ctypes.py_object(_TimeIsUp))

    timer = threading.Timer(seconds, interrupt)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        with lock:
            ended = True
        timer.cancel()
        ctypes.pythonapi.PyThreadState_SetAsyncExc(thread, None)  # one that was to be raised, and need not be any more


def _reason(error: BaseException) -> str:
    """The first line of what it comes from."""
    while error.__cause__ is not None:
        error = error.__cause__
    line = next((line.strip().rstrip(".") for line in str(error).splitlines() if line.strip()), "")
    return f"{type(error).__name__}: {line}" if line else type(error).__name__
