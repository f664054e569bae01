"""`params.yaml`."""

import json
from collections.abc import Sequence
from pathlib import Path

from hypothesis import strategies as st

from benchmarks.fuzz.structure import changed_json
from benchmarks.fuzz.target import Target
from pipeline.params.listing import as_text
from pipeline.params.reading import read_params, read_yaml, with_effect
from pipeline.runtime.errors import ParameterError
from pipeline.runtime.yaml_files import parsed_yaml

ROOT = Path(__file__).parents[2]


def seeds() -> list[bytes]:
    """The default with its comments, and the values of all presets in one line each."""
    default, *presets = (ROOT / "params.yaml", *sorted((ROOT / "presets").glob("*.yaml")))
    values = (json.dumps(parsed_yaml(path.read_text(encoding="utf-8"))).encode() for path in presets)
    return [default.read_bytes(), *values]


def run(path: Path) -> None:
    """Reads the parameters, and lists them."""
    params = read_params(path)
    as_text(params, read_yaml(path, ParameterError))
    with_effect(params)


def inputs(seeds: Sequence[bytes]) -> st.SearchStrategy[bytes]:
    """Other values, and keys removed, repeated and moved."""
    return changed_json([json.loads(json.dumps(parsed_yaml(seed.decode()))) for seed in seeds])


WORDS = (
    b"&a ",
    b"*a",
    b"!!int ''",
    b"!!set",
    b"? ",
    b"<<: ",
    b"\n- ",
    b"[[",
    b"{",
    b"2020-01-31",
    b"0x_",
    b".inf",
    b"~",
    b"|\n",
)
TARGETS = {"params": Target(seeds=seeds, run=run, inputs=inputs, file="params.yaml", words=WORDS)}
