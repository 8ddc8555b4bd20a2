from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
# A library like Habitat-Lab: it derives from what it imports, and fills in defaults.
LIBRARY = """
import magnum as mn
import habitat_sim
from habitat_sim.physics import MotionType

ORIGIN = mn.Vector3(0, 0, 0)

class Simulator(habitat_sim.Simulator):
    kind = habitat_sim.SensorType.COLOR

def follow():
    try:
        raise habitat_sim.errors.GreedyFollowerError("lost")
    except habitat_sim.errors.GreedyFollowerError as error:
        return str(error)

def rotate():
    return mn.Quaternion.rotation(mn.Deg(10), ORIGIN)
"""


def run(code: str, folder: Path) -> str:
    """Run code in a fresh interpreter that knows `folder` but no habitat-sim."""
    lines = f"import sys\nsys.path.insert(0, {str(folder)!r})\n{code}"
    done = subprocess.run([sys.executable, "-c", lines], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "library.py").write_text(LIBRARY)
    return tmp_path


def test_nothing_is_stood_in_for_without_a_request(folder: Path) -> None:
    code = (
        "import envs.habitat.stand_ins\ntry:\n import library\nexcept ModuleNotFoundError as error:\n print(error.name)"
    )
    assert run(code, folder).strip() == "magnum"


def test_imports_work_and_use_is_refused(folder: Path) -> None:
    code = (
        "from envs import habitat_stand_ins as s\n"
        "assert s.install() == s.install() == s.missing() == s.MODULES\n"
        "import library\n"
        "assert library.follow() == 'lost'\n"
        "for use in (library.rotate, lambda: library.Simulator(1, scene=2)):\n"
        "    try:\n        use()\n    except ImportError as error:\n        print(error)\n"
        "import importlib.util\n"
        "assert importlib.util.find_spec('another_module') is None\n"
    )
    first, second = run(code, folder).splitlines()
    assert first.startswith("magnum.Deg needs habitat-sim")
    assert second.startswith("library.Simulator needs habitat-sim")


def test_what_libraries_do_without_is_absent(folder: Path) -> None:
    code = """
from envs import habitat_stand_ins
habitat_stand_ins.install()
try:
    from habitat_sim.utils import profiling_utils
except ImportError:
    print("absent")
"""
    assert run(code, folder) == "absent\n"


def test_stand_ins_are_built_with_nothing(folder: Path) -> None:
    code = (
        "from envs import habitat_stand_ins as s\ns.install()\n"
        "import habitat_sim\nfrom habitat_sim import built_with_bullet\n"
        "print(habitat_sim.cuda_enabled, built_with_bullet, habitat_sim.bindings.built_with_bullet)"
    )
    assert run(code, folder) == "False False False\n"


def test_real_modules_stay_as_they_are(folder: Path) -> None:
    (folder / "magnum.py").write_text(
        "class Vector3(tuple):\n    def __new__(cls, *v):\n        return tuple.__new__(cls, v)\n"
    )
    code = (
        "from envs import habitat_stand_ins as s\n"
        "assert s.install() == ('corrade', 'habitat_sim')\n"
        "import library, magnum\n"
        "print(magnum.__file__, library.ORIGIN)\n"
    )
    assert run(code, folder).split() == [str(folder / "magnum.py"), "(0,", "0,", "0)"]
    for name in ("corrade", "habitat_sim"):
        (folder / f"{name}.py").write_text("")
    assert run("from envs import habitat_stand_ins as s\nprint(s.install(), sys.meta_path[-1])", folder).startswith(
        "() "
    )


def test_env_habitat_without_habitat_lab_says_what_to_install(tmp_path: Path) -> None:
    from importlib.util import find_spec

    if find_spec("habitat") is not None:
        pytest.skip("Habitat-Lab is installed here")
    words = [sys.executable, "-m", "agents.train", "env=habitat", f"run={tmp_path}", "base=random"]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("error: env=habitat needs Habitat-Lab")
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.habitat
@pytest.mark.skipif(find_spec("habitat") is None, reason="needs Habitat-Lab: make test-habitat")
def test_habitat_lab_is_imported_without_a_notice_of_gym() -> None:
    code = "from envs import habitat_stand_ins; habitat_stand_ins.install(); import habitat, gym"
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "unmaintained" not in done.stdout + done.stderr
