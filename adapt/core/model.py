"""The multi-task model: a frozen base with any number of adapted tasks (`wrap`, `save`, `load`, `merge`).

base = load_base("curvature")
adapted = wrap(base, method="side_tuning", task="pointnav", image_size=64, alpha=0.5)
features = adapted(image=images)             # uint8 (B,3,64,64) to float32 (B,8,4,4)
optimiser = torch.optim.Adam(adapted.trainable("pointnav"))
adapted.save("runs/a/adapter")               # the tasks only, never the base
adapted = load(base, "runs/a/adapter")       # in another process
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from adapt.core import checkpoint
from adapt.core.base import Base, NoFeatures, fitting
from adapt.core.budget import Budget, multiply_adds, stored_bits
from adapt.core.method import Incompatible, Loss, Method, get_method
from adapt.encoders.described import limited
from configs.names import nearest

SAID = 300  # Characters of a reason; PyTorch lists all tensors.


class Adapted(nn.Module):
    """A frozen base and its tasks, of which one is active.

    Attributes:
        base: the frozen base; no task changes it.
        image_size: height and width of the images, pixels.
        methods: the method of each task, by the task's name, in the order in which they were added.
        active: name of the active task.
    """

    def __init__(self, base: Base, image_size: int) -> None:
        super().__init__()
        _check_base(base)
        if not isinstance(image_size, int) or image_size < 1:
            raise ValueError(f"image_size must be a positive whole number of pixels, got {image_size!r}")
        self.base = base
        self.image_size = image_size
        self.methods = nn.ModuleDict()
        self.active = ""
        self._disabled = False
        self._shapes: dict[str, tuple[int, ...]] = {}

    @property
    def tasks(self) -> list[str]:
        """Names of all tasks, in the order in which they were added."""
        return list(self.methods)

    def method(self, task: str | None = None) -> Method:
        """The method of a task, by default of the active one.

        Raises:
            ValueError: there is no such task; the nearest is suggested.
        """
        name = self.active if task is None else task
        if not self.tasks:
            raise ValueError("there is no task yet; add one by add(task, method)")
        if name not in self.methods:
            raise ValueError(f"no task {name!r}{nearest(name, self.tasks)}; there are: {', '.join(self.tasks)}")
        return cast(Method, self.methods[name])

    def add(self, task: str, method: str, **settings: Any) -> Adapted:
        """Add a task and make it active.

        Args:
            task: its name: letters of any alphabet, digits, `_` and `-`.
            method: one of `list_methods()`.
            **settings: the method's settings.

        Returns:
            This object.

        Raises:
            ValueError: an unknown method or setting, a taken or unusable task name.
            Incompatible: the method makes no sense on this base.
        """
        checkpoint.check_task_name(task)
        if task in self.methods:
            raise ValueError(f"there is already a task {task!r}; give the new one another name")
        if hasattr(self.methods, task):
            raise ValueError(f"{task!r} is a name that torch's ModuleDict uses itself; call the task otherwise")
        kind = get_method(method)
        if not self.base.black_box:
            self._check_features()
        earlier = [m for m in self.methods.values() if isinstance(m, kind)]
        built = kind(self.base, kind.Config.from_settings(settings), self.image_size, earlier)
        device = next((p.device for p in self.base.parameters()), None)
        if self.base.dtype != torch.float32:
            built = built.to(self.base.dtype)
        self.methods[task] = built.to(device) if device is not None else built
        self.active = task
        return self

    def activate(self, task: str) -> None:
        """Make a task the active one; nothing else changes."""
        self.method(task)
        self.active = task

    @contextmanager
    def disabled(self) -> Iterator[None]:
        """Within this context the output is the base's own."""
        before, self._disabled = self._disabled, True
        try:
            yield
        finally:
            self._disabled = before

    @property
    def reads(self) -> frozenset[str]:
        """Inputs of the active task: any of "image", "features", "layers"; layers include the features."""
        reads = frozenset({"features"}) if self._disabled else self.method().reads
        return reads - {"features"} if "layers" in reads else reads

    def forward(
        self,
        image: Tensor | None = None,
        features: Tensor | None = None,
        layers: Mapping[str, Tensor] | None = None,
        task: str | None = None,
    ) -> Tensor:
        """Compute a task's features; the base runs only if it is needed and not given.

        Args:
            image: uint8 (B,3,H,W); may be left out if the task reads only features and these are given.
            features: the base's features of the same images, float32 (B,C,h,w) or (B,C), from `base(image)`.
            layers: the base's inner maps, from `base.layers(image)`.
            task: which task; the active one by default.

        Returns:
            float32 (B,C',h',w') or (B,C'), of `output_shape` per image.

        Raises:
            ValueError: something that the task reads is neither given nor computable.
        """
        method = self.method(task)
        reads = frozenset({"features"}) if self._disabled else method.reads
        if image is None and ("image" in reads or ("features" in reads and features is None)):
            needed = "image" if "image" in reads else "features or image"
            raise ValueError(f"task {task or self.active!r} ({method.name()}) reads {needed}, which is not given")
        if "layers" in reads and layers is None:
            assert image is not None
            features, layers = self.base.layers(image, method.layer_names)
        if "features" in reads and features is None:
            features = self.base(image)
        if self._disabled:
            return cast(Tensor, features)
        output: Tensor = method(image, *self._converted(features, layers))
        if method.training and torch.is_grad_enabled() and not output.requires_grad:
            _check_gradient(method)
        return output.float()

    def _converted(
        self, features: Tensor | None, layers: Mapping[str, Tensor] | None
    ) -> tuple[Tensor | None, Mapping[str, Tensor] | None]:
        """The base's outputs in the floating type of its weights, which the tasks share."""
        kind = self.base.dtype
        inner = None if layers is None else {name: tensor.to(kind) for name, tensor in layers.items()}
        return None if features is None else features.to(kind), inner

    def forward_all(
        self, image: Tensor | None = None, features: Tensor | None = None, tasks: Sequence[str] = ()
    ) -> dict[str, Tensor]:
        """Compute several tasks (all by default) on the same images with one pass of the base."""
        names = list(tasks) or self.tasks
        layers: Mapping[str, Tensor] | None = None
        inner = [n for name in names if "layers" in self.method(name).reads for n in self._inner(name)]
        if inner and image is not None:
            features, layers = self.base.layers(image, tuple(dict.fromkeys(inner)))
        elif features is None and image is not None:
            if any("features" in self.method(name).reads for name in names):
                features = self.base(image)
        return {name: self(image, features, layers, name) for name in names}

    def _inner(self, task: str) -> tuple[str, ...]:
        return self.base.layer_names(self.method(task).layer_names)

    @property
    def output_shape(self) -> tuple[int, ...]:
        """Shape of one image's adapted features for the active task, (C',h',w') or (C',)."""
        if self._disabled:
            return self.base.feature_shape(self.image_size)
        if self.active not in self._shapes:
            what, size = f"{self.method().name()} on this base", self.image_size
            with self._probing() as (image, method, features, layers), fitting(what, size, size):
                self._shapes[self.active] = tuple(method(image, features, layers).shape[1:])
        return self._shapes[self.active]

    def _check_features(self) -> None:
        """Raise NoFeatures if the base gives none; a base that looks at images of another size is not known yet."""
        try:
            self.base.feature_shape(self.image_size)
        except NoFeatures:
            raise
        except ValueError:
            return

    @contextmanager
    def _probing(self) -> Iterator[tuple[Tensor, Method, Tensor | None, Mapping[str, Tensor] | None]]:
        """The active method in eval mode with one black image; modes and counters come back unchanged."""
        method, base = self.method(), self.base
        counters = base.calls, base.frames_evaluated
        modes = {module: module.training for module in method.modules()}
        image = base.example(self.image_size, self.image_size).to(method.samples_seen.device)
        features: Tensor | None = None
        layers: Mapping[str, Tensor] | None = None
        method.eval()
        try:
            with torch.no_grad():
                if "layers" in method.reads:
                    features, layers = base.layers(image, method.layer_names)
                elif "features" in method.reads:
                    features = base(image)
                yield image, method, *self._converted(features, layers)
        finally:
            method.train(modes[method])
            for module, mode in modes.items():
                module.training = mode
            base.calls, base.frames_evaluated = counters

    def trainable(self, task: str | None = None) -> list[nn.Parameter]:
        """The parameters that training may change for a task (by default the active one), no head."""
        return self.method(task).trainable()

    def penalty(self) -> Tensor:
        """The regulariser to add to the active task's loss, a scalar tensor."""
        return self.method().penalty()

    def advance(self, samples: int) -> None:
        """Tell the active task that an optimiser step on `samples` samples was made; schedules follow it."""
        self.method().advance(samples)

    def begin_task(self, last: bool = False) -> None:
        """Tell the active task that its training begins, and whether it is the last."""
        self.method().begin_task(last)

    def end_task(self, batches: Iterable[tuple[Tensor, Tensor]], loss: Loss, head: Sequence[nn.Parameter] = ()) -> None:
        """Tell the active task that its training ended; see `Method.end_task` for the arguments."""
        self.method().end_task(batches, loss, head)

    def merge(self, task: str | None = None) -> Base:
        """Fold a task (the active one by default) into one plain frozen network without overhead.

        Returns:
            A new base that computes the task's features; this object stays as it is.

        Raises:
            NotMergeable: the method has no such form.
        """
        return self.method(task).merge()

    def budget(self, task: str | None = None) -> Budget:
        """Cost of a task; see `adapt.core.budget.Budget`."""
        before, self.active = self.active, task or self.active
        try:
            with self._probing() as (image, method, features, layers):
                base_cost = multiply_adds(lambda: self.base(image))
                own_cost = multiply_adds(lambda: method(image, features, layers))
                runs_base = "features" in method.reads or "layers" in method.reads
                return Budget(
                    trainable_parameters=sum(p.numel() for p in method.trainable()),
                    stored_bits=stored_bits(method.pack()),
                    base_multiply_adds=base_cost,
                    extra_multiply_adds=own_cost if runs_base else own_cost - base_cost,
                )
        finally:
            self.active = before

    def save(self, directory: str | Path) -> None:
        """Write all tasks, never the base, into a folder; see `adapt.core.checkpoint` for its layout.

        Raises:
            OSError: the disk is full or not writable; what the folder held before is undamaged.
        """
        entries = [
            checkpoint.Entry(
                task=task,
                method=self.method(task).name(),
                settings=self.method(task).config.to_settings(),
                samples_seen=int(self.method(task).samples_seen),
                tensors=self.method(task).pack(),
            )
            for task in self.tasks
        ]
        checkpoint.write(Path(directory), self.base.sha256, self.image_size, self.active, entries)


def wrap(base: Base, method: str, task: str = "task", image_size: int = 64, **settings: Any) -> Adapted:
    """Put a first task on a frozen base; `Adapted.add` puts more.

    Args:
        base: the frozen base, from `load_base`.
        method: one of `list_methods()`.
        task: the task's name.
        image_size: height and width of the images, pixels.
        **settings: the method's settings.

    Raises:
        ValueError: an unknown method (the nearest is suggested) or setting, or an unusable name.
        Incompatible: the method makes no sense on this base.
    """
    return Adapted(base, image_size).add(task, method, **settings)


def _check_base(base: object) -> None:
    if not isinstance(base, Base):
        raise ValueError(f"the base must be of the class adapt.Base, got {type(base).__name__}; use load_base or Base")


def load(base: Base, directory: str | Path) -> Adapted:
    """Read the tasks that `Adapted.save` wrote.

    Args:
        base: the same base that they were trained on.
        directory: the folder.

    Raises:
        FileNotFoundError: the folder holds no saved tasks.
        ValueError: another base, an unknown format, settings that are none or ask for much more memory than the base
            and the tensors take, or tensors that are missing, unexpected or of another shape.
    """
    _check_base(base)
    header, entries = checkpoint.read(Path(directory), base.sha256)
    try:
        adapted = Adapted(base, header["image_size"])
        for entry in entries:
            _add_stored(adapted, entry)
        adapted.activate(header["active"])
    except ValueError as error:
        raise ValueError(f"cannot use {directory}: {error}") from error
    return adapted


def _check_gradient(method: Method) -> None:
    """Refuse to go on with weights that are to be trained and that the output gives no gradient to."""
    if method.gives_gradient and any(parameter.requires_grad for parameter in method.trainable()):
        raise Incompatible(
            f"{method.name()} cannot train on this base: its forward cuts gradients off (no_grad, detach, whole "
            "numbers); use features or side_tuning"
        )


def _add_stored(adapted: Adapted, entry: checkpoint.Entry) -> None:
    """Put a stored task on the base; a task that does not fit raises ValueError."""
    where = f"task {entry.task!r} ({entry.method})"
    # What a method allocates goes with the base and with what it stored.
    with limited({**adapted.base.state_dict(), **entry.tensors}):
        try:
            adapted.add(entry.task, entry.method, **entry.settings)
        except (TypeError, RuntimeError, OverflowError, ArithmeticError) as error:
            raise ValueError(f"{where} cannot be built with its settings: {' '.join(str(error).split())}") from error
    method = adapted.method()
    try:
        method.unpack(entry.tensors)
    except Exception as error:
        # Every method reads its own tensors, and fails in any way others make it.
        reason = " ".join(str(error).split())[:SAID]
        raise ValueError(f"the tensors do not fit {where}: {reason}") from error
    method.samples_seen.fill_(entry.samples_seen)
