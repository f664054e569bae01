"""Lets `precompute` write after each batch; Python runs this when it starts with this folder in PYTHONPATH.

How many batches it gathers otherwise depends on how fast the disk was. So a kill in the midst of the pass might find
all views written at once.
"""

import importlib
import importlib.util
import math
import sys
from importlib.abc import MetaPathFinder

PATCHED = "pipeline.teacher_pass.labelling"


class WritesEachBatch(MetaPathFinder):
    """Finds the module as Python does, and changes one of its numbers when it has been loaded."""

    def find_spec(self, name, path=None, target=None):
        if name != PATCHED:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        load = spec.loader.exec_module

        def exec_module(module):
            load(module)
            module.WRITING_SHARE = math.inf

        spec.loader.exec_module = exec_module
        return spec


sys.meta_path.insert(0, WritesEachBatch())
