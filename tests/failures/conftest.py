"""Makes the table's own modules importable, and runs one command of a row."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from scene import Scene

from forktail import cli, fitting

QUICK = ["plan.epochs=1", "plan.batch_size=8", "backbone.name=tiny"]


@pytest.fixture(scope="session")
def trained(tmp_path_factory):
    """A finished run, whose recipe names ``set.npz`` in the folder where a command is given."""
    folder = tmp_path_factory.mktemp("trained")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        Scene(folder, folder, patch).arrays()
        fitting.fit("set.npz", "osdtw", settings=QUICK, out=folder / "run")
    return folder / "run"


@pytest.fixture
def scene(tmp_path, trained, monkeypatch):
    """An empty folder, in which the command will be given."""
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return Scene(folder, trained, monkeypatch)


@pytest.fixture
def command(monkeypatch, capsys):
    """Run the whole command in this process: exit code, stdout, stderr."""

    def run(arguments):
        monkeypatch.setattr(sys, "argv", ["forktail", *arguments])
        with pytest.raises(SystemExit) as caught:
            cli.main()
        said = capsys.readouterr()
        return caught.value.code or 0, said.out, said.err

    return run
