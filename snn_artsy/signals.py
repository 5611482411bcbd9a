"""Ctrl-C and SIGTERM end a command, always, whatever code they meet."""

from __future__ import annotations

import _thread
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

# Long enough for a finalizer to have returned.
_AGAIN_SECONDS = 0.05


class Terminated(KeyboardInterrupt):
    """SIGTERM, delivered as an interrupt so that a run closes its files either way."""


def exit_code(error: KeyboardInterrupt) -> int:
    """What a shell reports of a process that the signal ended: 130 or 143."""
    return 128 + (signal.SIGTERM if isinstance(error, Terminated) else signal.SIGINT)


def _deliver(number: int) -> None:
    if sys.platform == "win32":
        _thread.interrupt_main(number)
    else:  # also wakes the main thread from a system call
        signal.pthread_kill(threading.main_thread().ident or 0, number)


@contextmanager
def interruptible() -> Iterator[None]:
    """Raise KeyboardInterrupt for SIGINT and `Terminated` for SIGTERM while the block runs.

    Python drops what is raised in a finalizer or in a callback from C, and libraries have bare
    ``except:`` clauses. The signal is then raised again: shortly after in the first case, at the
    end of the block in the second.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread may set handlers
        return
    raised: list[KeyboardInterrupt] = []

    def interrupt(number: int, frame: FrameType | None) -> NoReturn:
        raised.append(Terminated() if number == signal.SIGTERM else KeyboardInterrupt())
        raise raised[-1]

    def dropped(unraisable: sys.UnraisableHookArgs) -> None:
        if not isinstance(unraisable.exc_value, KeyboardInterrupt):
            hook(unraisable)
            return
        number = exit_code(unraisable.exc_value) - 128
        # By a thread, since an exception raised in here would be dropped, too.
        again = threading.Timer(_AGAIN_SECONDS, _deliver, (number,))
        again.daemon = True
        again.start()

    hook, sys.unraisablehook = sys.unraisablehook, dropped
    handlers = {signal.SIGTERM: signal.signal(signal.SIGTERM, interrupt)}
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:  # as in the background of a script
        handlers[signal.SIGINT] = signal.signal(signal.SIGINT, interrupt)
    try:
        yield
        if raised:
            raise raised[0]
    finally:
        sys.unraisablehook = hook
        for number, handler in handlers.items():
            signal.signal(number, handler)
