"""No code that runs what a file says: no pickle, no `eval`, no shell, no constructor of YAML, in any module."""

import ast
from pathlib import Path

import pytest
from real_project import ROOT

MODULES = sorted(path for folder in ("pipeline", "benchmarks") for path in (ROOT / folder).rglob("*.py"))
RUN_CODE = {
    "cloudpickle",
    "dill",
    "jsonpickle",
    "joblib",
    "marshal",
    "pickle",
    "pickletools",
    "shelve",
    "torch",
    "_pickle",
}
CALLS = {
    *("eval", "exec", "os.system", "os.popen", "subprocess.getoutput", "subprocess.getstatusoutput"),
    *("pandas.read_pickle", "pd.read_pickle", "yaml.unsafe_load", "yaml.full_load"),
    *("keras.config.enable_unsafe_deserialization", "enable_unsafe_deserialization"),
}
HARMLESS = {"allow_pickle": {"False"}, "shell": {"False"}, "safe_mode": {"True"}, "typ": {"'safe'", "'rt'"}}
"""Of arguments by which a call may run code, the values with which it does not."""

BETWEEN_RAYS_PROCESSES = {Path("pipeline/tools/ray_trainings.py"), Path("benchmarks/workers.py")}
"""They send functions to workers of a cluster by Ray's own pickles; no file is read so (docs/reliability.md)."""


def dotted(node: ast.expr) -> str:
    """The name of a function that is called, as it is written."""
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""


def found_in(tree: ast.AST) -> list[str]:
    """What could run code that a file names."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [name.name for name in node.names if name.name.split(".")[0] in RUN_CODE]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = {node.module.split(".")[0], *(name.name for name in node.names)}
            found += sorted(names & RUN_CODE)
        elif isinstance(node, ast.Attribute) and node.attr in RUN_CODE:
            found.append(node.attr)
        elif isinstance(node, ast.Call):
            given = {(word.arg, ast.unparse(word.value)) for word in node.keywords if word.arg in HARMLESS}
            harmful = {word for word in given if word[1] not in HARMLESS[word[0]]}
            found += [dotted(node.func)] if harmful or dotted(node.func) in CALLS else []
    return found


@pytest.mark.parametrize(
    "code",
    [
        "import pickle", "from joblib import load", "import torch.serialization", "eval('1')",
        "np.load(file, allow_pickle=True)", "np.savez(file, allow_pickle=told)", "subprocess.run('ls', shell=True)",
        "YAML(typ='unsafe').load(file)", "keras.saving.load_model(file, safe_mode=False)", "pd.read_pickle(file)",
        "ray.cloudpickle.loads(content)", "from ray import cloudpickle",
    ],
)  # fmt: skip
def test_what_runs_code_of_a_file_would_be_found(code):
    assert found_in(ast.parse(code))


@pytest.mark.parametrize(
    "code", ["np.load(file)", "np.load(file, allow_pickle=False)", "YAML(typ='safe').load(file)", "json.loads(text)"]
)
def test_what_reads_data_alone_is_allowed(code):
    assert not found_in(ast.parse(code))


def test_no_module_runs_what_a_file_says():
    found = {path.relative_to(ROOT): found_in(ast.parse(path.read_text(encoding="utf-8"))) for path in MODULES}
    assert {path for path, names in found.items() if names} == BETWEEN_RAYS_PROCESSES, found
