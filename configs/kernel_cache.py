"""Cache of compiled kernels: emptied when any source file of the package changed.

Numba keeps what it compiles beside a source file and reuses it while that one file is unchanged. It does not notice a
kernel or a class of another file that changed, and then fails while it loads, or computes with an old layout.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

STAMP = "kernels.stamp"
# In files of kernels, by numba's name or as users of `envs.navgrid.heightfield`, and of the tuples that kernels take.
MARKS = (b"njit", b"kernel", b"NamedTuple")


def empty_if_stale(package: Path) -> bool:
    """Remove kernels that were compiled from other sources than the package has now.

    Args:
        package: Folder of the package; its files with kernels and with tuples that these take are compared by content.

    Returns:
        Whether kernels were removed. A folder that cannot be written to is left alone.
    """
    digest = hashlib.sha256()
    for file in sorted(package.rglob("*.py")):
        source = file.read_bytes()
        if any(mark in source for mark in MARKS):
            digest.update(f"{file.relative_to(package)} {len(source)}\n".encode() + source)
    cache = package / "__pycache__"
    stamp = cache / STAMP
    try:
        if stamp.is_file() and stamp.read_text() == digest.hexdigest():
            return False
        stale = [file for pattern in ("*.nbi", "*.nbc") for file in package.rglob(f"__pycache__/{pattern}")]
        for file in stale:
            file.unlink(missing_ok=True)
        cache.mkdir(exist_ok=True)
        stamp.write_text(digest.hexdigest())
    except OSError:
        return False
    return bool(stale)
