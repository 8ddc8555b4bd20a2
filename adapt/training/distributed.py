"""Data-parallel training by ``torchrun``: gradient averaging and collectives that are no-ops on a single rank.

    torchrun --nproc-per-node 2 -m agents.train algo=dagger run=runs/a

Every rank holds the whole model and its own share of the data. Gradients are averaged over the ranks before they are
clipped, so N ranks with a batch of B/N each make the updates of one process with a batch of B. The first rank alone
writes files. Collectives are torch.distributed's: NCCL for tensors on CUDA, gloo for the rest. Lightning Fabric
launches the same processes but averages inside the forward of a wrapped module, whereas Stable-Baselines3 and the
imitation learners call parts of the policy; what would be left of it is the five calls made here.
"""

from __future__ import annotations

import contextlib
import os
import platform
import signal
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist

# Its functions take the process group as a default argument. Imported later (by an optimiser, through TorchDynamo) they
# would hold the group until Python is being finalised, where gloo's threads that need Python abort the process.
import torch.distributed.nn
from rich.console import Console
from torch import Tensor, nn
from torch.distributed.distributed_c10d import Store
from torch.distributed.rendezvous import rendezvous

from adapt.training.digests import tensors_sha256
from adapt.training.finite import Data, clip_finite
from configs.errors import explain, is_expected
from configs.processes import end_with_torchrun

T = TypeVar("T")

# A rank that ends is noticed at once; this is for machines that vanish and ranks that hang.
TIMEOUT = timedelta(minutes=10)
# Seconds that surviving ranks wait for each other's failure reports.
GRACE = 2.0
SEEDS_APART = 100_003  # between the seeds of ranks, so that those of resumed sessions stay apart too
RESUME = "what was saved is kept: go on with resume=true, on any number of ranks"
_meeting: list[Store] = []  # torchrun's key-value store, which outlives the ranks


class RankFailed(ConnectionError):
    """A rank cannot go on; the message says which and why."""


class _RankLost(ConnectionError):
    """A collective failed because another rank is gone."""


class Terminated(BaseException):
    """Raised by the SIGTERM handler: torchrun sends SIGTERM to the surviving ranks after one fails."""


def rank() -> int:
    """This process's number, from 0; 0 if it is the only one."""
    return dist.get_rank() if dist.is_initialized() else 0


def ranks() -> int:
    """The world size."""
    return dist.get_world_size() if dist.is_initialized() else 1


def is_first() -> bool:
    """Whether this is the process that writes files and prints."""
    return rank() == 0


def print_once(line: str) -> None:
    """Print one line on the first rank."""
    if is_first():
        Console().print(line, highlight=False, soft_wrap=True, markup=False)


def share(total: int, what: str) -> int:
    """This rank's equal part of a number.

    Raises:
        ValueError: It cannot be divided equally.
    """
    if total % ranks():
        raise ValueError(f"{what}={total} cannot be shared by {ranks()} ranks; choose a multiple of {ranks()}")
    return total // ranks()


def _started() -> int:
    """How many processes torchrun started, whether or not they have joined; 1 without it."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def refuse_ranks(command: str) -> None:
    """Refuse several ranks, for commands that work in one process.

    Raises:
        ValueError: torchrun started several.
    """
    if _started() > 1:
        raise ValueError(f"{command} runs in one process; start it without torchrun")


# -- joining and leaving --------------------------------------------------------------------------------------------


@contextlib.contextmanager
def joined(device: str) -> Iterator[None]:
    """Be one of torchrun's ranks; without torchrun, or with a single rank, nothing happens.

    Args:
        device: ``cpu`` or ``cuda``; on CUDA each rank takes the GPU of its number on its machine.

    Raises:
        RankFailed: On the one rank that reports what went wrong; the others exit with code 2 and print nothing.
    """
    if _started() == 1:
        yield
        return
    _join(device)
    try:
        yield
        gathered(None)  # nobody leaves while another still needs it
    except BaseException as error:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        _explain(error, _meeting[0])
        raise
    dist.destroy_process_group()


def _join(device: str) -> None:
    """Make the process group, and listen to torchrun's signal to stop."""
    on_cuda = device.startswith("cuda")
    if on_cuda:
        local, here = int(os.environ["LOCAL_RANK"]), torch.cuda.device_count()
        if local >= here:
            raise ValueError(f"rank {local} of this machine has no GPU, there are {here}; use --nproc-per-node {here}")
        torch.cuda.set_device(local)
    store, number, world = next(rendezvous("env://", timeout=TIMEOUT))
    backend = "cpu:gloo,cuda:nccl" if on_cuda else "gloo"
    dist.init_process_group(backend, store=store, rank=number, world_size=world, timeout=TIMEOUT)

    _meeting[:] = [store]

    def on_sigterm(*_: Any) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        _stop()
        raise Terminated

    signal.signal(signal.SIGTERM, on_sigterm)
    end_with_torchrun()


def _stop() -> None:
    """Record in the store that this rank ends by itself; a killed rank leaves no record."""
    with contextlib.suppress(RuntimeError):
        _meeting[0].set(f"stopped/{rank()}", "1")


def _explain(error: BaseException, store: Store) -> None:
    """Raise one clear error on one rank and a silent exit on the others; return to let `error` be raised as it is."""
    me, count = rank(), ranks()
    name = f"rank {me} of {count} (on {platform.node()})"
    lost = isinstance(error, _RankLost | Terminated)
    _stop()
    try:
        if not lost:
            if store.add("reported", 1) > 1:
                raise SystemExit(2) from error
            if is_expected(error):
                raise RankFailed(f"{name}: {explain(error)}") from error
            return
        time.sleep(GRACE)
        gone = [str(r) for r in range(count) if not store.check([f"stopped/{r}"])]
        if store.add("reported", 1) > 1:
            raise SystemExit(2) from error
    except RuntimeError:  # the store was on a rank or a machine that is gone
        raise RankFailed(f"{name}: the others cannot be reached any more ({error}); {RESUME}") from error
    if gone:
        which = f"rank {gone[0]}" if len(gone) == 1 else f"ranks {', '.join(gone)}"
        raise RankFailed(f"{which} of {count} ended without a message (killed, or out of memory?); {RESUME}") from error
    if isinstance(error, Terminated):
        raise RankFailed(f"all {count} ranks were stopped (SIGTERM); {RESUME}") from error
    raise RankFailed(f"{name}: the ranks lost each other ({error}); {RESUME}") from error


@contextlib.contextmanager
def _collective() -> Iterator[None]:
    """A failed collective means that another rank is gone."""
    try:
        yield
    except RuntimeError as error:
        _stop()
        raise _RankLost(str(error).split("\n")[0]) from error


# -- one model on all ranks -----------------------------------------------------------------------------------------


def copy_from_first(tensors: Iterable[Tensor]) -> None:
    """Give every rank the first rank's values, in place."""
    if ranks() == 1:
        return
    with _collective():
        for tensor in tensors:
            dist.broadcast(tensor.data, 0)


def average_gradients(parameters: Sequence[nn.Parameter]) -> None:
    """Replace the gradients of all that is trained by their mean over ranks, in one collective.

    A parameter without a gradient counts as zero where another rank has one, and stays without if none has.
    """
    if ranks() == 1:
        return
    trained = [p for p in parameters if p.requires_grad]
    if not trained:
        return
    flat = torch.cat([(torch.zeros_like(p) if p.grad is None else p.grad).reshape(-1).float() for p in trained])
    present = flat.new_tensor([float(p.grad is not None) for p in trained])
    flat = torch.cat([flat, present])
    with _collective():
        dist.all_reduce(flat)
    *means, seen = (flat / ranks()).split([*(p.numel() for p in trained), len(trained)])
    for parameter, mean, anywhere in zip(trained, means, seen.tolist(), strict=True):
        if anywhere:
            parameter.grad = mean.reshape(parameter.shape).to(parameter.dtype)


def prepare_before_step(
    optimizer: torch.optim.Optimizer,
    module: nn.Module,
    max_norm: float,
    at: Callable[[], str],
    data: Callable[[], Data],
) -> None:
    """Make each step of `optimizer` first average gradients and `module`'s statistics over ranks, then check and clip.

    For loops that belong to others and clip right before the step: give them an infinite norm, with which clipping
    changes nothing. The last three arguments are those of `adapt.training.finite.clip_finite`.
    """
    parameters = [p for group in optimizer.param_groups for p in group["params"]]

    def before(*_: Any) -> None:
        average_gradients(parameters)
        average_statistics(module)
        clip_finite(at(), None, parameters, max_norm, data)

    optimizer.register_step_pre_hook(before)


def average_statistics(module: nn.Module) -> None:
    """Replace the running statistics of normalisation layers by their mean over ranks; call it after an update.

    Every rank normalises with its own batch, as in DistributedDataParallel. Modules in eval mode, such as a frozen
    base, have not changed theirs and are left alone.
    """
    if ranks() == 1:
        return
    learning = (m for m in module.modules() if m.training)
    named = [pair for m in learning for pair in m.named_buffers(recurse=False)]
    moved = [b for name, b in named if name in ("running_mean", "running_var")]
    if not moved:
        return
    # In double precision the mean of equal numbers is that number.
    flat = torch.cat([b.reshape(-1).double() for b in moved])
    with _collective():
        dist.all_reduce(flat)
    for buffer, mean in zip(moved, (flat / ranks()).split([b.numel() for b in moved]), strict=True):
        buffer.copy_(mean.reshape(buffer.shape))


def check_equal(tensors: dict[str, Tensor], when: str) -> None:
    """Check by hash that all ranks hold the same values.

    Raises:
        RankFailed: They do not.
    """
    if ranks() == 1:
        return
    if len(set(gathered(tensors_sha256(tensors.items())))) > 1:
        raise RankFailed(f"the ranks hold different parameters {when}; this is an error of the program, please report")


# -- numbers and objects --------------------------------------------------------------------------------------------


def gathered(value: T) -> list[T]:
    """Every rank's value, in order of ranks."""
    if ranks() == 1:
        return [value]
    out: list[Any] = [None] * ranks()
    with _collective():
        dist.all_gather_object(out, value)
    return out


def from_first(value: T) -> T:
    """The first rank's value; what the others give is ignored."""
    if ranks() == 1:
        return value
    box: list[Any] = [value if is_first() else None]
    with _collective():
        dist.broadcast_object_list(box, 0)
    return box[0]


def total(value: int) -> int:
    """Sum over ranks."""
    return sum(gathered(value))


def means(values: dict[str, float]) -> dict[str, float]:
    """Mean over the ranks that have a key, key by key."""
    if ranks() == 1:
        return values
    every = gathered({key: float(value) for key, value in values.items()})
    keys = dict.fromkeys(key for one in every for key in one)
    return {k: sum(one[k] for one in every if k in one) / sum(k in one for one in every) for k in keys}


def moments(values: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation (Bessel's) of all ranks' values together, scalars of the type of `values`."""
    wide = values.double()
    sums = torch.stack(
        [torch.tensor(float(values.numel()), device=values.device).double(), wide.sum(), (wide**2).sum()]
    )
    if ranks() > 1:
        with _collective():
            dist.all_reduce(sums)
    count, first, second = sums
    mean = first / count
    variance = (second - count * mean**2).clamp(min=0) / (count - 1).clamp(min=1)
    return mean.to(values.dtype), variance.sqrt().to(values.dtype)


def first_does(work: Callable[[], None], done: Callable[[], bool]) -> None:
    """Do slow work that leaves a file on one rank of each machine, while its others wait until `done`."""
    mine = ranks() == 1 or os.environ.get("LOCAL_RANK", "0") == "0"
    if mine and not done():
        work()
    while not mine and not done():
        time.sleep(0.5)
