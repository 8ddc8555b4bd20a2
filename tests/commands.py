"""Commands run in this process; a new one, as `python -m` makes it, first takes seconds to import torch."""

from __future__ import annotations

import contextlib
import importlib
import io
import subprocess
from unittest import mock


def run_here(module: str, *words: str) -> subprocess.CompletedProcess[str]:
    """Run ``python -m module words`` without a new process; what it says and its exit code."""
    output, errors, code = io.StringIO(), io.StringIO(), 0
    argv = mock.patch("sys.argv", [module, *words])
    with argv, contextlib.redirect_stdout(output), contextlib.redirect_stderr(errors):
        try:
            importlib.import_module(module).main()
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else int(end.code is not None)
    return subprocess.CompletedProcess([module, *words], code, output.getvalue(), errors.getvalue())


def done_here(module: str, *words: str) -> str:
    """What a command says that must succeed."""
    finished = run_here(module, *words)
    assert finished.returncode == 0, finished.stderr
    return finished.stdout
