"""Clones that share a remote: what they need not run, not have, and how they mend what is damaged.

Everything is done by the commands of docs/sharing.md, in real clones with real remotes: a folder, an SSH server, an
S3 server.
"""

import getpass
import http.client
import os
import shutil
import socket
import stat
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest
import real_project
from real_project import attempt, change, copy_without, kill_group, run, sha256, stages_run, start, wait_until
from shared_project import BLOCKS, DOCUMENT, Shared, code_blocks, documented, publish, stored, verified

TEACHER, LOGITS = "models/teacher.keras", "data/soft_labels/teacher_logits.h5"
AT_4 = "data/soft_labels/soft_targets_T4.h5"
STUDENT = "models/students/kl_T4_seed1.keras"
STUDENTS = {"models/students/kl_T2_seed1.keras", STUDENT}
SSHD = Path("/usr/sbin/sshd")


@pytest.fixture(scope="module")
def shared(reproduced, tmp_path_factory) -> Shared:
    return publish(reproduced, tmp_path_factory.mktemp("shared"))


@pytest.fixture(scope="module")
def pulled(shared, tmp_path_factory) -> Path:
    """A clone that has pulled the soft labels; to be copied."""
    return shared.clone(tmp_path_factory.mktemp("pulled") / "clone")


def files_in(project: Path, *folders: str) -> set[str]:
    found = [path for folder in folders for path in (project / folder).rglob("*") if path.is_file()]
    return {path.relative_to(project).as_posix() for path in found}


def test_every_block_is_named_or_marked_as_illustration():
    named = {documented(name) for name in BLOCKS}
    assert len(named) == len(BLOCKS)
    assert all(code in named or code.startswith("# illustration") for kind, code in code_blocks() if kind != "text")


def test_every_block_is_run_by_a_test():
    here = Path(__file__).parent
    tests = "".join((here / name).read_text() for name in ("test_sharing.py", "test_use_elsewhere.py"))
    tests += (here / "shared_project.py").read_text().split("def code_blocks")[1]
    assert [name for name in BLOCKS if f'"{name}"' not in tests] == []


def test_one_command_gets_the_soft_labels_and_nothing_else(shared, pulled):
    assert files_in(pulled, "data/soft_labels", "models", "data/split") == {AT_4}
    assert sha256(pulled / AT_4) == sha256(shared.first / AT_4)
    assert files_in(shared.remote, "runs"), "the run-cache was pushed too"


@pytest.fixture(scope="module")
def changed(shared, pulled, tmp_path_factory) -> tuple[Path, str]:
    """A clone after a change of the temperatures, from a remote that has lost the teacher; and what was printed."""
    folder = tmp_path_factory.mktemp("changed")
    clone, remote = copy_without(pulled, folder / "clone"), folder / "remote"
    shutil.copytree(shared.remote, remote)
    stored(remote, clone, TEACHER).unlink()
    run("softlabel", "init-remote", "--force", str(remote), cwd=clone)
    shared.play("pull models", cwd=clone)
    change(clone / "params.yaml", "distill.temperatures", [4, 2])
    for stage in (
        "export",
        "measure_exports",
        "report",
        "model_card",
    ):  # they take long, and nothing here is about them
        change(clone / "dvc.yaml", f"stages.{stage}.frozen", True)
    return clone, shared.play("change", cwd=clone)


def test_a_new_temperature_runs_no_teacher(changed):
    _, said = changed
    assert stages_run(said) == ["soften@2", "train_student@kl-2-1", "evaluate"]


def test_neither_the_raw_data_nor_the_teacher_are_there(changed):
    clone, _ = changed
    assert not (clone / "data/raw").exists()
    assert files_in(clone, "models") == {*STUDENTS, "models/teacher.json", "models/baselines/seed1.keras"}


def test_everything_is_evaluated(changed):
    clone, _ = changed
    table = run("softlabel", "table", cwd=clone)
    for model in ("teacher", "baseline", "student kl T=4", "student kl T=2"):
        assert f"\n{model} " in table
    assert files_in(clone, "results/plots/training_loss") == {
        f"results/plots/training_loss/{name}.csv"
        for name in ("teacher", "baseline_seed1", "student_kl_T4_seed1", "student_kl_T2_seed1")
    }


def test_the_student_is_the_one_that_the_first_clone_trains(shared, pulled, tmp_path):
    """From the pulled soft labels alone, with neither the teacher nor its logits there."""
    clone = copy_without(pulled, tmp_path / "clone")
    run("dvc", "pull", "split", cwd=clone)
    assert files_in(clone, "data/soft_labels", "models") == {AT_4}
    lock = (clone / "dvc.lock").read_bytes()
    stage = "train_student@kl-4-1"
    assert stages_run(run("dvc", "repro", "--single-item", stage, cwd=clone)) == [stage]
    assert (clone / "dvc.lock").read_bytes() == lock
    assert sha256(clone / STUDENT) == sha256(shared.first / STUDENT)
    assert files_in(clone, "data/soft_labels", "models") == {AT_4, STUDENT}


def test_nothing_is_left_to_do(changed):
    clone, _ = changed
    assert stages_run(run("dvc", "repro", "--allow-missing", cwd=clone)) == []


def test_dvc_pulls_no_folder_that_many_stages_fill(pulled):
    """Else the models need not be pulled beforehand, and the document says too much."""
    refused = attempt("dvc", "pull", "models/baselines", cwd=pulled)
    assert refused.returncode != 0
    assert "'models/baselines' does not exist as an output" in refused.stdout
    assert "'models/baselines' does not exist as an output" in DOCUMENT.read_text(encoding="utf-8")


@pytest.fixture
def clone(shared, pulled, tmp_path):
    """A clone with a remote of its own: (where it is, how its blocks are played)."""
    remote = tmp_path / "remote"
    shutil.copytree(shared.remote, remote)
    folder = copy_without(pulled, tmp_path / "clone")
    run("softlabel", "init-remote", "--force", str(remote), cwd=folder)
    return folder, Shared(shared.first, shared.origin, remote)


def test_damage_in_remote_and_cache_is_mended_from_a_copy(clone, shared, tmp_path):
    project, its = clone
    first = copy_without(shared.first, tmp_path / "first")
    cached, sound = stored(project / ".dvc/cache", project, AT_4), sha256(project / AT_4)
    run("softlabel", "init-remote", "--force", str(its.remote), cwd=first)
    flip(stored(its.remote, project, AT_4))
    with pytest.raises(AssertionError, match="is not sound"):
        its.play("fetch again", cwd=project)  # ends with `softlabel verify`
    names = its.here("fetch again").split("rm -f")[0]  # the lines that name file and object
    run("bash", "-euc", names + its.here("mend the remote"), cwd=first)
    assert sha256(cached) != sound
    (project / AT_4).unlink()
    run("dvc", "checkout", AT_4, cwd=project)
    assert sha256(project / AT_4) != sound, "DVC has taken the damaged file for sound"
    its.play("fetch again", cwd=project)
    assert sha256(project / AT_4) == sha256(cached) == sound


def test_damage_everywhere_is_mended_by_computing_again(clone):
    project, its = clone
    sound, lock = sha256(project / AT_4), (project / "dvc.lock").read_bytes()
    run("dvc", "pull", LOGITS, cwd=project)
    for file in (project / AT_4, stored(project / ".dvc/cache", project, AT_4), stored(its.remote, project, AT_4)):
        flip(file)
    assert not verified(project, AT_4)
    names, rest = its.here("fetch again").split("rm -f")
    remove = f"rm -f{rest.splitlines()[0]}\n" + its.here("mend the remote").splitlines()[0] + "\n"
    run("bash", "-euc", names + remove + its.here("compute again"), cwd=project)
    assert verified(project, AT_4)
    assert (project / "dvc.lock").read_bytes() == lock
    for place in (project / ".dvc/cache", its.remote):
        assert sha256(stored(place, project, AT_4)) == sound


def test_dvc_told_to_compare_fetches_no_damaged_file(clone):
    project, its = clone
    flip(stored(its.remote, project, AT_4))
    its.play("compare what is fetched", cwd=project)
    (project / AT_4).unlink()
    stored(project / ".dvc/cache", project, AT_4).unlink()
    refused = attempt("dvc", "pull", AT_4, cwd=project)
    assert refused.returncode != 0
    assert not (project / AT_4).exists()


def flip(file: Path) -> None:
    """Flips a bit, as a failing disk does: the file stays as old and as write-protected as it was."""
    before = file.stat()
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.chmod(stat.S_IMODE(before.st_mode) | stat.S_IWUSR)
    file.write_bytes(content)
    file.chmod(stat.S_IMODE(before.st_mode))
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture(scope="module")
def ssh_server(tmp_path_factory) -> Iterator[tuple[Path, int]]:
    """An SSH server for this user alone: (the home folder of a client, its port).

    The client calls it `server` in ~/.ssh/config. It does not know the host's key, for which DVC does not ask.
    """
    if not SSHD.is_file():
        pytest.skip(f"there is no SSH server at {SSHD}")
    if find_spec("dvc_ssh") is None:
        pytest.skip("dvc-ssh is not installed")
    folder, port = tmp_path_factory.mktemp("ssh"), free_port()
    keys = folder / "home/.ssh"
    keys.mkdir(parents=True, mode=0o700)
    for name in (folder / "host_key", keys / "other_key"):
        run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(name), cwd=folder)
    (keys / "config").write_text("Host server\n    HostName 127.0.0.1\n")
    (folder / "sshd_config").write_text(
        f"ListenAddress 127.0.0.1\nPort {port}\nHostKey {folder / 'host_key'}\nPidFile none\nUsePAM no\n"
        f"AuthorizedKeysFile {keys / 'other_key.pub'}\nStrictModes no\nPasswordAuthentication no\n"
        "Subsystem sftp internal-sftp\n"
    )
    separation = Path("/run/sshd")  # which sshd wants when root starts it
    made = os.geteuid() == 0 and not separation.exists()
    if made:
        separation.mkdir(mode=0o755)
    log = folder / "sshd.log"
    process = start(str(SSHD), "-D", "-e", "-f", str(folder / "sshd_config"), cwd=folder, log=log)
    try:
        wait_until(lambda: answers(port), process)
        yield folder / "home", port
    finally:
        kill_group(process)
        if made:
            separation.rmdir()


def test_a_clone_pulls_over_ssh_what_another_pushed(shared, ssh_server, tmp_path, monkeypatch):
    home, port = ssh_server
    monkeypatch.setitem(real_project.ENVIRONMENT, "HOME", str(home))
    place = f"ssh://{getpass.getuser()}@server:{port}{tmp_path}/remote"
    set_up = documented("set up SSH").replace("ssh://you@host/home/you/project", place)
    check_push_and_pull(shared, tmp_path, set_up, documented("own key"))
    assert files_in(tmp_path, "remote/runs"), "the run-cache was pushed too"


@pytest.fixture(scope="module")
def s3_server(tmp_path_factory) -> Iterator[int]:
    """An S3 server with one bucket: its port."""
    for module in ("moto", "flask", "flask_cors", "dvc_s3"):
        if find_spec(module) is None:
            pytest.skip(f"{module} is not installed")
    folder, port = tmp_path_factory.mktemp("s3"), free_port()
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    process = start(*command, cwd=folder, log=folder / "moto.log")
    try:
        wait_until(lambda: answers(port), process)
        yield port
    finally:
        kill_group(process)


def test_a_clone_pulls_over_s3_what_another_pushed(shared, s3_server, tmp_path, monkeypatch):
    for name, value in {
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
    }.items():
        monkeypatch.setitem(real_project.ENVIRONMENT, name, value)
    monkeypatch.setitem(real_project.ENVIRONMENT, "HOME", str(tmp_path))
    address = f"http://127.0.0.1:{s3_server}"
    make_bucket(s3_server, "bucket")
    own = documented("own server").replace("https://s3.example.org", address)
    check_push_and_pull(shared, tmp_path, documented("set up S3") + own)


def make_bucket(port: int, name: str) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", port)
    connection.request("PUT", f"/{name}")
    assert connection.getresponse().status == 200
    connection.close()


def check_push_and_pull(shared: Shared, folder: Path, set_up: str, own: str = "") -> None:
    """From one clone to another that knows the remote from git alone, but for what is each one's own."""
    first, second = copy_without(shared.first, folder / "first"), folder / "second"
    run("bash", "-euc", set_up.replace("init-remote", "init-remote --force") + own, cwd=first)
    run("git", "commit", "--quiet", "--message", "Remote", ".dvc/config", cwd=first)
    run("dvc", "push", "--run-cache", "-A", cwd=first)
    run("git", "clone", "--quiet", str(first), str(second), cwd=folder)
    run("bash", "-euc", own + "dvc pull soften", cwd=second)
    assert sha256(second / AT_4) == sha256(first / AT_4)
