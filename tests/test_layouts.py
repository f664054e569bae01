"""The layouts of a data set: params.yaml has exactly the keys that the readers take."""

import inspect
from typing import get_args

import pytest

from pipeline.datasets.layouts import LAYOUTS
from pipeline.params.layouts import Split
from pipeline.params.split import FilesSection

SECTIONS = {get_args(section.model_fields["layout"].annotation)[0]: section for section in get_args(get_args(Split)[0])}


def test_every_layout_has_a_section_and_a_reader():
    assert list(SECTIONS) == list(LAYOUTS)


@pytest.mark.parametrize("layout", SECTIONS)
def test_the_keys_of_a_layout_are_its_readers_arguments(layout):
    keys = SECTIONS[layout].model_fields.keys() - FilesSection.model_fields.keys() - {"layout"}
    assert keys == inspect.signature(LAYOUTS[layout]).parameters.keys()
