"""What ONNX Runtime says when it fails."""

import re

from pipeline.runtime.errors import one_line

TECHNICAL = (
    *(r"^\[ONNXRuntimeError\] : \d+ : \w+ : ", r"^Fatal error: ", r"^Load model from \S+ failed: ?"),
    *(r"^Exception during initialization: ", r"/onnxruntime_src/\S+:\d+ .*?\) ", r"\w+\.cc:\d+ \w+ "),
)
"""What ONNX Runtime puts before what it says."""

LACKS_MEMORY = re.compile("bad.?alloc|allocate memory|out of memory", re.I)


def without_prefix(error: Exception) -> str:
    """The text of an error of ONNX Runtime in one line, without its number and the places in its sources."""
    text = one_line(error, limit=4000)
    for technical in TECHNICAL:
        text = re.sub(technical, "", text)
    return one_line(text).rstrip(".")
