"""A project that is shared: its git repository, its remote, and the blocks of docs/sharing.md that work with them."""

import re
from dataclasses import dataclass
from pathlib import Path

from real_project import ROOT, attempt, copy_without, run

DOCUMENT = ROOT / "docs/sharing.md"
BLOCKS = {
    "set up": "softlabel init-remote /mnt",
    "set up SSH": "softlabel init-remote ssh://",
    "own key": "dvc remote modify --local shared keyfile",
    "set up S3": "softlabel init-remote s3://",
    "own server": "dvc remote modify shared endpointurl",
    "push": "git add --all",
    "clone and pull": "git clone",
    "pull models": "dvc pull train_student",
    "change": "dvc repro --pull",
    "get": "dvc get",
    "import": "dvc import",
    "open": "import dvc.api",
    "tag": "git tag",
    "artifact": "dvc artifacts get",
    "fetch again": "file=",
    "mend the remote": "rm -f",
    "compute again": "dvc repro --single-item",
    "compare what is fetched": "dvc remote modify --local folder verify",
}
"""How each code block of the document begins."""


def code_blocks() -> list[tuple[str, str]]:
    """(language, code) of each code block of the document."""
    return re.findall(r"^```(\w+)\n(.*?)^```$", DOCUMENT.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)


def documented(name: str) -> str:
    """The code of one block."""
    return next(code for _, code in code_blocks() if code.startswith(BLOCKS[name]))


@dataclass(frozen=True)
class Shared:
    """Where a project is published.

    Attributes:
        first: the clone that made everything and pushed it.
        origin: the repository of git that the others clone.
        remote: the folder that is DVC's remote.
    """

    first: Path
    origin: Path
    remote: Path

    def play(self, *names: str, cwd: Path) -> str:
        """Runs blocks of the document, one after another in one shell, and returns what they print."""
        return run("bash", "-euc", self.here(*names), cwd=cwd)

    def here(self, *names: str) -> str:
        """Blocks of the document, with the places of this project."""
        places = {"https://github.com/you/project": f"file://{self.origin}", "/mnt/team/project": str(self.remote)}
        text = "".join(map(documented, names))
        for written, place in places.items():
            text = text.replace(written, place)
        return text

    def clone(self, folder: Path) -> Path:
        """Another clone, which has pulled the soft labels."""
        folder.mkdir()
        self.play("clone and pull", cwd=folder)
        return folder / "project"


def publish(reproduced: Path, folder: Path) -> Shared:
    """Pushes a copy of a project that was reproduced, as the document tells."""
    origin, remote = folder / "project.git", folder / "remote"
    first = copy_without(reproduced, folder / "first")
    run("git", "init", "--quiet", "--bare", "--initial-branch=main", str(origin), cwd=folder)
    for setting in (
        ("user.name", "Test"),
        ("user.email", "test@example.org"),
        ("push.autoSetupRemote", "true"),
        ("commit.gpgSign", "false"),
        ("tag.gpgSign", "false"),
    ):
        run("git", "config", *setting, cwd=first)
    run("git", "checkout", "--quiet", "-b", "main", cwd=first)
    run("git", "remote", "add", "origin", str(origin), cwd=first)
    shared = Shared(first, origin, remote)
    shared.play("set up", "push", cwd=first)
    return shared


def stored(remote: Path, project: Path, file: str) -> Path:
    """Where a remote or a cache keeps a file that dvc.lock of a project names."""
    found = re.search(rf"- path: {re.escape(file)}\n\s+hash: md5\n\s+md5: (\w+)\n", (project / "dvc.lock").read_text())
    assert found, f"dvc.lock does not name {file}"
    return remote / "files/md5" / found[1][:2] / found[1][2:]


def verified(project: Path, file: str) -> bool:
    """What `softlabel verify` says."""
    return attempt("softlabel", "verify", file, cwd=project).returncode == 0
