"""Classification of errors: those a user can act on get one line, all others are faults of this project."""

from __future__ import annotations

import errno
import re
import sys

EXPECTED = (ValueError, OSError, ImportError, MemoryError)
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
# Of libraries that are not imported for this.
ALSO = {
    "torch": "OutOfMemoryError",
    "PIL.Image": "DecompressionBombError",
    "hydra.errors": "HydraException",
    "omegaconf.errors": "OmegaConfBaseException",
}
# What torch says on the CPU, as a RuntimeError.
NO_MEMORY = re.compile(r"(can't|cannot|unable to) allocate|not enough memory|out of memory", re.IGNORECASE)
SIZE = re.compile(r"(?:tried|unable) to allocate ([\d.]+ \w+)", re.IGNORECASE)
# What torch's DataLoader says of an error in one of its processes, and of one that is gone.
IN_WORKER = re.compile(r"Caught \w+ in .* process \d+\.\s")
LOST_WORKER = re.compile(r"DataLoader worker \(pid.* (killed by signal|exited unexpectedly)")
OURS = "this is a fault of Sidestep, not of what you asked for; please report it with the command and all lines above"


def is_expected(error: BaseException) -> bool:
    """Whether a user can act on an error."""
    also = tuple(getattr(sys.modules[module], name) for module, name in ALSO.items() if module in sys.modules)
    lost = isinstance(error, RuntimeError) and LOST_WORKER.search(str(error)) is not None
    return isinstance(error, (*EXPECTED, *also)) or lost or is_out_of_memory(error)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory was not to be had, of the computer or the GPU."""
    if isinstance(error, MemoryError) or type(error).__name__ == ALSO["torch"]:
        return True
    return isinstance(error, RuntimeError) and NO_MEMORY.search(str(error)) is not None


def explain(error: BaseException) -> str:
    """The one-line message of an expected error."""
    text = str(error)
    if IN_WORKER.match(text):  # the traceback follows, which ends with the error's own line
        text = re.sub(r"^[\w.]+: ", "", text.strip().splitlines()[-1])
    message = " ".join(text.split())
    if LOST_WORKER.search(message):
        return "a process that reads data ended without a word (killed, or out of memory?); use fewer workers"
    if is_out_of_memory(error):
        size = SIZE.search(message)
        what = f" ({size[1]} at once)" if size else f" ({message[:200]})" if message else ""
        return f"out of memory{what}; ask for smaller pictures, a smaller batch, or fewer agents or frames"
    if isinstance(error, OSError) and error.errno in FULL and "space there" not in message:
        return f"{message}; free some space where the command writes: its run or out folder, or the current one"
    return message or type(error).__name__
