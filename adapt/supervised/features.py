"""Disk cache of the frozen base's features, shared by all runs.

A file `<key>.npy` is a float32 array (N,C,h,w) or (N,C), read by memory map; `<key>.json` says what it is: the base's
sha256 and settings, the data's identity, the images' normalisation, and the sha256 of the array's bytes, which is
checked.
"""

from __future__ import annotations

import copy
import hashlib
import json
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from adapt.core.base import Base, Normalisation
from adapt.training import distributed
from adapt.training.digests import file_sha256
from adapt.training.files import reserved_array, to_json
from configs.writing import replacing, write_atomically

FORMAT_VERSION = 1
Features = NDArray[np.float32]


class FeatureStore:
    """A folder of features.

    Args:
        folder: made when something is stored.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def get(
        self,
        base: Base,
        identity: str,
        count: int,
        inputs: Callable[[], Iterable[Tensor]],
        normalisation: Normalisation | None = None,
    ) -> Features:
        """The features of `count` inputs, from the folder or computed now and put there.

        Args:
            base: the frozen base.
            identity: names the inputs' content.
            count: how many inputs there are.
            inputs: gives them in batches, in order.
            normalisation: the task's own, if it has one.

        Raises:
            ValueError: `inputs` gives another number of inputs.
            OSError: the folder cannot be written.
        """
        described = {
            "format": FORMAT_VERSION,
            "base": base.sha256,
            "data": identity,
            "normalisation": asdict(normalisation) if normalisation else None,
            "count": count,
        }
        # Settings such as a last activation leave no trace in the weights.
        if base.spec.kwargs:
            described["encoder"] = dict(base.spec.kwargs)
        key = hashlib.sha256(json.dumps(described, sort_keys=True).encode()).hexdigest()[:24]
        # Through JSON, so that tuples compare as the lists that are read back.
        listed = json.loads(json.dumps(described))
        distributed.first_does(
            lambda: self._write(key, described, count, _evaluated(base, inputs(), normalisation)),
            lambda: self._read(key, listed) is not None,
        )
        features = self._read(key, listed)
        if features is None:
            raise OSError(f"features written to {self.folder / key}.npy cannot be read back; the disk may be damaged")
        return features

    def _read(self, key: str, described: dict[str, Any]) -> Features | None:
        header, array = self.folder / f"{key}.json", self.folder / f"{key}.npy"
        if not (header.is_file() and array.is_file()):
            return None
        try:
            stored = json.loads(header.read_text())
            digest = stored.pop("sha256")
            # One that was damaged is computed again.
            if stored == described and file_sha256(array) == digest:
                return np.load(array, mmap_mode="r", allow_pickle=False)
        except (ValueError, KeyError, EOFError):
            pass
        sys.stderr.write(f"warning: the kept features {array} are damaged and are computed again\n")
        return None

    def _write(self, key: str, described: dict[str, Any], count: int, batches: Iterator[Tensor]) -> None:
        """Write the array beside its place, then move it there; the header comes last."""
        target = self.folder / f"{key}.npy"
        try:
            with replacing(target) as held:
                _fill(Path(held.name), count, batches)
        except OSError as error:
            raise OSError(f"{error.strerror}; or keep no features with cache=none") from error
        header = {**described, "sha256": file_sha256(target)}
        write_atomically(self.folder / f"{key}.json", to_json(header, indent=1).encode())


def _fill(file: Path, count: int, batches: Iterator[Tensor]) -> None:
    """Write batches one after the other into an array of `count` rows."""
    filled, array = 0, None
    for batch in batches:
        if array is None:
            array = reserved_array(file, np.float32, (count, *batch.shape[1:]))
        if filled + len(batch) > count:
            raise ValueError(f"{count} inputs were announced, and there are more")
        array[filled : filled + len(batch)] = batch.cpu().numpy()
        filled += len(batch)
    if array is None or filled != count:
        raise ValueError(f"{count} inputs were announced, and there are {filled}")
    cast("np.memmap[Any, Any]", array).flush()


def _evaluated(base: Base, inputs: Iterable[Tensor], normalisation: Normalisation | None) -> Iterator[Tensor]:
    device = next((p.device for p in base.parameters()), torch.device("cpu"))
    # Narrow convolutions run in half the time with channels last; a copy, because some methods flatten the weights.
    fast = copy.deepcopy(base)
    fast.encoder.to(memory_format=torch.channels_last)
    for batch in inputs:
        base.calls += 1
        base.frames_evaluated += len(batch)
        with fast.normalised(normalisation):
            yield fast(batch.to(device))
