"""``python -m tests.tools.fuzz inputs=10000 seed=0 workers=2``: mutated inputs of every kind, read as commands do.

Every input must be read, or refused by one of the errors that commands print as one line (`REFUSED`) that names the
input. Anything else is a fault: another exception (a traceback), more than `LIMIT` seconds of processor time (a hang),
a process that dies (a crash), or a pickle that ran. An input is made from the seed and its number alone:
``python -m tests.tools.fuzz seed=0 only=1234`` reads one again, in this process, with its traceback.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

LIMIT = 20.0
# An input that waits without computing, for a network or a lock; and the first inputs, which compile.
WAIT, WARM = 120.0, 1800.0
# Memory in bytes that reading an input may take beyond what the process has when it starts.
MEMORY = 4 * 2**30
LONGEST = 1500
ROOT = Path(__file__).resolve().parents[2]
READ, REFUSED, FAULT = "read", "refused", "fault"


@dataclass(frozen=True)
class Outcome:
    """What became of one input: `READ`, `REFUSED`, or a fault of a kind, with what was said."""

    number: int
    target: str
    kind: str
    said: str = ""


def _expected() -> tuple[type[BaseException], ...]:
    """Errors of a command that become one line."""
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    return ValueError, OSError, ImportError, HydraException, OmegaConfBaseException


def read_input(number: int, seed: int, root: Path, whole: bool = False) -> Outcome:
    """Make one input and read it."""
    from tests.tools.fuzz_targets import CANARY, TARGETS

    target = TARGETS[number % len(TARGETS)]
    folder = root / f"input_{number}"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    target.make(folder, None if whole else np.random.default_rng([seed, number]))
    kind, said = READ, ""
    try:
        target.read(folder)
    except _expected() as error:
        kind, said = _judged(error, folder.name, target.called)
    except MemoryError:
        kind, said = "memory", _last_line()
    except BaseException:
        kind, said = "traceback", _last_line()
    if (folder / CANARY).exists():
        kind, said = "pickle run", target.name
    shutil.rmtree(folder, ignore_errors=True)
    return Outcome(number, target.name, kind, said)


def _judged(error: BaseException, folder: str, called: str) -> tuple[str, str]:
    """Whether an expected error says something: in a line of a bearable length, with the name of what it is about."""
    said = " ".join(str(error).split())
    if not said:
        return "bare error", f"{type(error).__name__}: {said} | {_last_line()}"
    if len(said) > LONGEST:
        return "long line", f"{len(said)} characters: {said[:200]}"
    if folder not in said and not (called and called in said):
        return "unnamed", f"{said[:300]} | {_last_line()}"
    return REFUSED, said


def _last_line() -> str:
    """Where an exception came from: its last frames and its own line."""
    lines = [line.strip() for line in traceback.format_exc().splitlines() if line.strip()]
    frames = [line for line in lines if line.startswith("File ")]
    return " <- ".join([lines[-1][:200], *(_short(frame) for frame in frames[::-1][:4])])


def _short(frame: str) -> str:
    file, line, *rest = frame.removeprefix("File ").split(", ")
    return f"{Path(file.strip(chr(34))).name}:{line.removeprefix('line ')} {' '.join(rest).removeprefix('in ')}"


# -- a worker ---------------------------------------------------------------------------------------------------------


def work(first: int, last: int, step: int, seed: int, root: Path) -> None:
    """Read inputs first, first + step, ... below last, and write a line of JSON before and after each."""
    out = os.fdopen(os.dup(1), "w", buffering=1)
    from tests.tools.fuzz_targets import TARGETS  # what is wrong with these is still shown

    silent = os.open(os.devnull, os.O_WRONLY)
    os.dup2(silent, 1)
    os.dup2(silent, 2)
    logging.disable(logging.CRITICAL)
    warnings.simplefilter("ignore")

    for number in range(len(TARGETS)):
        out.write(json.dumps({"warm": number}) + "\n")
        found = read_input(number, seed, root, whole=True)
        if found.kind != READ:
            out.write(json.dumps({"broken": asdict(found)}) + "\n")
            return
    size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (size + MEMORY, resource.RLIM_INFINITY))
    for number in range(first, last, step):
        out.write(json.dumps({"begin": number}) + "\n")
        out.write(json.dumps({"end": asdict(read_input(number, seed, root))}) + "\n")
    out.write(json.dumps({"done": True}) + "\n")


class Worker:
    """A process that reads every `step`-th input from `first` on, begun again after an input that ends it."""

    def __init__(self, first: int, last: int, step: int, seed: int, root: Path) -> None:
        self.next, self.last, self.step, self.seed = first, last, step, seed
        self.root = root / f"worker_{first}"
        self.done = False
        self._start()

    def _start(self) -> None:
        words = [str(v) for v in (self.next, self.last, self.step, self.seed, self.root)]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "PYTHONPATH": str(ROOT)}
        command = [sys.executable, "-m", "tests.tools.fuzz", "worker", *words]
        self.process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=False)
        assert self.process.stdout is not None
        os.set_blocking(self.process.stdout.fileno(), False)
        self._left = b""
        self.number: int | None = None
        self._begun()

    def _begun(self) -> None:
        self.since, self.cpu = time.monotonic(), self._processor()

    def _processor(self) -> float:
        """Seconds of the processor that the worker has taken."""
        with contextlib.suppress(OSError, IndexError, ValueError):
            words = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
            return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")
        return 0.0

    def poll(self) -> Iterator[Outcome]:
        """Take what the worker has written since; end it where an input takes too long, and begin it again."""
        assert self.process.stdout is not None
        with contextlib.suppress(BlockingIOError):
            self._left += self.process.stdout.read() or b""
        *lines, self._left = self._left.split(b"\n")
        for line in map(json.loads, lines):
            if "broken" in line:
                raise RuntimeError(f"a whole input is not read: {line['broken']}")
            if "end" in line:
                yield Outcome(**line["end"])
                self.next, self.number = line["end"]["number"] + self.step, None
            self.number = line.get("begin", self.number)
            self.done |= "done" in line
            self._begun()
        if not self.done and (found := self._ended()) is not None:
            yield found
            self.next = found.number + self.step
            self.done = self.next >= self.last
            if not self.done:
                self._start()

    def _ended(self) -> Outcome | None:
        """A hang or a crash at the input that is being read."""
        warm = self.number is None
        code = self.process.poll()
        if code is not None:
            if warm:
                raise RuntimeError(f"a worker ended with {code} before it read an input")
            return self._fault("crash", f"exit code {code}")
        busy, waited = self._processor() - self.cpu, time.monotonic() - self.since
        if (busy > LIMIT or waited > WAIT + 30 * busy) if not warm else waited > WARM:
            self.stop()
            return self._fault("hang", f"{busy:.0f} s of the processor, {waited:.0f} s in all")
        return None

    def _fault(self, kind: str, said: str) -> Outcome:
        from tests.tools.fuzz_targets import TARGETS

        assert self.number is not None
        return Outcome(self.number, TARGETS[self.number % len(TARGETS)].name, kind, said)

    def stop(self) -> None:
        """End the process."""
        with contextlib.suppress(OSError):
            self.process.send_signal(signal.SIGKILL)
        self.process.wait()


# -- the whole ---------------------------------------------------------------------------------------------------------


def fuzz(inputs: int, seed: int = 0, workers: int = 2, first: int = 0, say: Any = None) -> list[Outcome]:
    """Read `inputs` mutated inputs and give what became of each.

    Raises:
        RuntimeError: An input that is whole is not read, so that nothing would be tested.
    """
    found: list[Outcome] = []
    with tempfile.TemporaryDirectory(prefix="fuzz_") as folder:
        team = [Worker(first + k, first + inputs, workers, seed, Path(folder)) for k in range(min(workers, inputs))]
        try:
            while not all(worker.done for worker in team):
                for worker in team:
                    for outcome in worker.poll() if not worker.done else ():
                        found.append(outcome)
                        if say is not None:
                            say(outcome, len(found))
                time.sleep(0.05)
        finally:
            for worker in team:
                worker.stop()
    return found


def table(found: list[Outcome]) -> str:
    """Counts by target and kind as text."""
    kinds = sorted({o.kind for o in found}, key=lambda k: (k not in (READ, REFUSED), k))
    lines = ["target".ljust(18) + "".join(kind.rjust(12) for kind in kinds)]
    counts = Counter((o.target, o.kind) for o in found)
    for target in [*dict.fromkeys(o.target for o in sorted(found, key=lambda o: o.number)), "all"]:
        row = [sum(n for (t, k), n in counts.items() if k == kind and target in (t, "all")) for kind in kinds]
        lines.append(target.ljust(18) + "".join(str(n).rjust(12) for n in row))
    return "\n".join(lines)


def main(words: list[str]) -> int:
    """The command; exit code 1 where there is a fault."""
    if words[:1] == ["worker"]:
        work(*map(int, words[1:5]), Path(words[5]))
        return 0
    given = dict(word.split("=", 1) for word in words)
    seed = int(given.get("seed", 0))
    if "only" in given:
        return _one(int(given["only"]), seed)
    started = time.monotonic()

    def say(outcome: Outcome, count: int) -> None:
        if outcome.kind not in (READ, REFUSED):
            sys.stderr.write(f"{outcome.number} {outcome.target}: {outcome.kind}: {outcome.said}\n")
        if count % 500 == 0:
            sys.stderr.write(f"{count} inputs, {time.monotonic() - started:.0f} s\n")

    inputs = int(given.get("inputs", 10_000))
    found = fuzz(inputs, seed, int(given.get("workers", 2)), int(given.get("first", 0)), say)
    faults = [o for o in found if o.kind not in (READ, REFUSED)]
    sys.stdout.write(f"{table(found)}\n{len(found)} inputs, {len(faults)} faults, {time.monotonic() - started:.0f} s\n")
    return 1 if faults else 0


def _one(number: int, seed: int) -> int:
    """Read one input here, without catching what it raises."""
    from tests.tools.fuzz_targets import TARGETS

    target = TARGETS[number % len(TARGETS)]
    folder = Path(tempfile.mkdtemp(prefix=f"input_{number}_"))
    target.make(folder, np.random.default_rng([seed, number]))
    sys.stderr.write(f"{target.name} in {folder}: {sorted(str(p.relative_to(folder)) for p in folder.rglob('*'))}\n")
    target.read(folder)
    sys.stderr.write("read\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
