"""The command `sidestep`: it forwards words, names what is near, and completes in the shells that are installed."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from configs import commands
from configs.commands import COMMANDS
from configs.completion import completions_of, script
from configs.console import CONSOLE, SHELLS, main, split
from configs.groups import options

ROOT = Path(__file__).resolve().parents[1]


class Console:
    """Runs `sidestep` in this process."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self.monkeypatch, self.capsys = monkeypatch, capsys
        # Modules that are run as __main__ register their settings again, for this test only.
        monkeypatch.setattr(commands, "_settings", dict(commands._settings))

    def __call__(self, *words: str) -> tuple[object, str, str]:
        """Exit code, output, errors."""
        self.monkeypatch.setattr(sys, "argv", ["sidestep", *words])
        code: object = 0
        try:
            main()
        except SystemExit as end:
            code = end.code
        shown = self.capsys.readouterr()
        return code, shown.out, shown.err


@pytest.fixture
def sidestep(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Console:
    return Console(monkeypatch, capsys)


def test_every_command_is_reached_by_the_words_of_its_module() -> None:
    assert {module for module, _ in CONSOLE.values()} == {module for module, _ in COMMANDS.values()} | {"adapt.methods"}
    for words, (module, _) in CONSOLE.items():
        assert words.replace(" ", ".") == module.removeprefix("agents.")


def test_the_page_of_commands_lists_them_all() -> None:
    rows = [line for line in (ROOT / "docs/commands.md").read_text().splitlines() if line.startswith("| `")]
    listed = [tuple(cell.strip(" `") for cell in row.strip("|").split("|")) for row in rows]
    assert listed == [(f"sidestep {words}", f"python -m {module}", about) for words, (module, about) in CONSOLE.items()]


@pytest.mark.parametrize(
    "words, said",
    [
        (["trian"], "there is no command 'trian'; did you mean 'train'?"),
        (["adpat", "train"], "there is no command 'adpat'; did you mean 'adapt'?"),
        (["adapt", "tran"], "adapt has no command 'tran'; did you mean 'train'?"),
        (["adapt"], "adapt needs a second word; choose from train, compare"),
    ],
)
def test_unknown_commands_are_answered_with_the_nearest(words: list[str], said: str) -> None:
    with pytest.raises(ValueError, match=r"^" + said.replace("?", "[?]")):
        split(words)


def test_what_follows_the_command_is_left_alone() -> None:
    assert split(["train", "run=runs/a", "adapt=lora"]) == ("train", ["run=runs/a", "adapt=lora"])
    assert split(["adapt", "train", "-m", "seed=0,1"]) == ("adapt train", ["-m", "seed=0,1"])


def test_errors_and_help_of_the_command(sidestep: Console) -> None:
    said = "error: there is no command 'evaluat'; did you mean 'evaluate'?\n"
    assert sidestep("evaluat", "run=runs/a") == (2, "", said)
    code, shown, _ = sidestep("--help")
    assert code == 0
    assert all(f"  {words} " in shown for words in CONSOLE)
    assert sidestep()[:2] == (2, shown)
    assert sidestep("completion", "bsh")[2].endswith("bash, zsh, fish; did you mean 'bash'?\n")


def test_a_command_is_forwarded_with_its_exit_code(
    sidestep: Console, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("agents.report", "adapt.layers"):  # as in a new process
        monkeypatch.delitem(sys.modules, module, raising=False)
    code, _, errors = sidestep("report", f"run={tmp_path / 'none'}")
    assert code == 2
    assert errors.startswith("error: ") and f"{tmp_path / 'none'}" in errors
    code, shown, _ = sidestep("adapt", "layers", "--help")
    assert code == 0 and "python -m adapt.layers" in shown


def test_the_list_of_commands_imports_no_network_library() -> None:
    code = "import sys; from configs.console import main; sys.argv = ['sidestep', '--help']\ntry: main()\nfinally: "
    code += "assert not {'torch', 'hydra', 'numpy'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True)


def test_words_hold_keys_and_choices_of_all_that_can_be_chosen() -> None:
    words = completions_of("train")
    assert {f"adapt={method}" for method in options("adapt")} <= set(words)
    assert {"algo.learner.learning_rate=", "experiment=side_tuning_ppo", "resume=true", "env.scene="} <= set(words)
    assert len(words) == len(set(words))


@pytest.fixture(scope="module")
def scripts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("completion")
    for shell in SHELLS:
        (folder / shell).write_text(script(shell))
    return folder


def complete(shell: str, scripts: Path, line: str) -> set[str]:
    """What the shell itself offers for a line."""
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    if shell == "bash":
        code = (
            f"source {scripts / shell}; COMP_LINE='{line}'; COMP_POINT=${{#COMP_LINE}}; _sidestep 2>/dev/null; "
            "printf '%s\\n' \"${COMPREPLY[@]}\""
        )
    else:
        code = f"source {scripts / shell}; complete -C '{line}'"
    env = {**os.environ, "HOME": str(scripts)}
    done = subprocess.run([shell, "-c", code], cwd=scripts, capture_output=True, text=True, env=env)
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


@pytest.mark.parametrize("shell", ["bash", "fish"])
@pytest.mark.parametrize(
    "line, offered",
    [
        ("sidestep ev", {"evaluate"}),
        ("sidestep adapt co", {"compare", "compress"}),
        ("sidestep train adapt=side", {"adapt=side_tuning"}),
        ("sidestep train algo.learner.learning_r", {"algo.learner.learning_rate="}),
        ("sidestep adapt train protocol=t", {"protocol=two_stage"}),
    ],
)
def test_shells_complete(shell: str, scripts: Path, line: str, offered: set[str]) -> None:
    found = complete(shell, scripts, line)
    # Bash replaces what follows "=" alone.
    values = {word.partition("=")[2] or word for word in offered}
    assert found in (offered, values)


def test_zsh_reads_its_script(scripts: Path) -> None:
    if shutil.which("zsh") is None:
        pytest.skip("zsh is not installed")
    # All that Tab does in a terminal of its own; the answer lists the candidates.
    code = f"""
    zmodload zsh/zpty
    zpty shell zsh -f -i
    zpty -w shell 'autoload -U compinit && compinit -u; source {scripts / "zsh"}; PS1=; echo READY'
    zpty -r shell answer '*READY*READY*'
    zpty -w -n shell $'sidestep train adapt=side\t'
    zpty -r shell answer '*side_tuning*'
    print -r -- $answer
    """
    done = subprocess.run(
        ["zsh", "-f", "-c", code], capture_output=True, text=True, timeout=60, env={**os.environ, "HOME": str(scripts)}
    )
    assert "adapt=side_tuning" in done.stdout, done
