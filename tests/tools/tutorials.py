"""``python -m tests.tools.tutorials [NAME ...]``: run the tutorials of docs/ and write what they print into them."""

from __future__ import annotations

import os
import re
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "docs" / "tutorials"
ESCAPE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
PROGRESS = re.compile(r"━━.*\d+/\d+ \d+:\d\d:\d\d")


def run(notebook: Path, folder: Path) -> Any:
    """Run a notebook in a folder, with this Python and this checkout; gives it with its outputs."""
    import nbclient
    import nbformat

    # Commands in the notebook find this environment first.
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    os.environ["PYTHONPATH"] = str(ROOT)
    made = nbformat.read(notebook, as_version=4)
    client = nbclient.NotebookClient(made, timeout=1800, resources={"metadata": {"path": str(folder)}})
    client.execute()
    for cell in made.cells:
        cell.metadata.pop("execution", None)
        if cell.cell_type == "code":
            cell.outputs = _plain(cell.outputs)
    return made


def _plain(outputs: list[Any]) -> list[Any]:
    """Outputs with printed text in one piece, without colours and without what progress bars drew on the way."""
    import nbformat

    printed = "".join(out.text for out in outputs if out.output_type == "stream").replace("\r\n", "\n")
    lines = [line for line in re.split("[\r\n]", ESCAPE.sub("", printed)) if not PROGRESS.search(line)]
    text = "\n".join(line.rstrip() for line in lines).strip("\n")
    shown = [out for out in outputs if out.output_type != "stream"]
    return [nbformat.v4.new_output("stream", name="stdout", text=f"{text}\n"), *shown] if text else shown


def main() -> None:
    """Run all tutorials, or those that are named."""
    import nbformat

    for name in sys.argv[1:] or sorted(path.stem for path in FOLDER.glob("*.ipynb")):
        with tempfile.TemporaryDirectory() as folder:
            nbformat.write(run(FOLDER / f"{name}.ipynb", Path(folder)), FOLDER / f"{name}.ipynb")
        print(f"{name}: done")  # noqa: T201 (the command's output)


if __name__ == "__main__":
    main()
