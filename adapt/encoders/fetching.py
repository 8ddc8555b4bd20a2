"""Downloads of pretrained weights by libraries: one attempt without a network, and nothing is unpickled."""

from __future__ import annotations

import importlib
import os
import urllib.error
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

TRY_SECONDS = 10.0
SAFE = "TORCH_FORCE_WEIGHTS_ONLY_LOAD"


@contextmanager
def fetching(name: str, hub: bool = True) -> Iterator[None]:
    """While a library fetches and loads the weights of a model.

    Args:
        name: of the model, for messages.
        hub: whether they come from the Hugging Face hub. It is asked for once beforehand: where it cannot be reached,
            what is cached counts, without the minutes of tries that its library makes.

    Raises:
        FileNotFoundError: the weights are neither cached nor can be fetched.
    """
    with never_unpickled(), _hub_asked_once() if hub else nullcontext("") as unreachable:
        try:
            yield
        except (OSError, urllib.error.URLError) as error:
            reason = unreachable or " ".join(str(error).split())
            raise FileNotFoundError(
                f"the weights of {name} are not in the cache and cannot be fetched ({reason}); fetch them on a "
                "machine with a network and copy its cache, or name a file of weights"
            ) from error


@contextmanager
def never_unpickled() -> Iterator[None]:
    """Within this context PyTorch's loader takes tensors and plain values only, whatever a library asks it for."""
    before = os.environ.get(SAFE)
    os.environ[SAFE] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ[SAFE]
        else:
            os.environ[SAFE] = before


@contextmanager
def _hub_asked_once() -> Iterator[str]:
    """Give why the hub cannot be reached, empty where it can or is not asked; keep its library offline meanwhile."""
    try:
        hub: Any = importlib.import_module("huggingface_hub.constants")
        utils: Any = importlib.import_module("huggingface_hub.utils")
    except ImportError:
        yield ""
        return
    reason = ""
    if not hub.HF_HUB_OFFLINE:
        try:
            utils.get_session().head(hub.ENDPOINT, timeout=TRY_SECONDS)
        except Exception as error:  # of whichever library makes the request
            reason = f"{hub.ENDPOINT}: {' '.join(str(error).split()) or type(error).__name__}"
    before = hub.HF_HUB_OFFLINE
    hub.HF_HUB_OFFLINE = bool(before or reason)
    try:
        yield reason
    finally:
        hub.HF_HUB_OFFLINE = before
