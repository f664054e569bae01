"""The files that a student is exported to."""

from typing import Literal

from pipeline.deployed.metadata import FilePrecision

Format = Literal["litert_float32", "litert_float16", "litert_int8", "onnx", "saved_model"]
"""A value of `export.formats`."""

FILES: dict[Format, str] = {
    "litert_float32": "student_float32.tflite",
    "litert_float16": "student_float16.tflite",
    "litert_int8": "student_int8.tflite",
    "onnx": "student.onnx",
    "saved_model": "saved_model",
}
"""The name of the file, or of the folder, of each format."""

PRECISIONS: dict[Format, FilePrecision] = {
    "litert_float32": "float32",
    "litert_float16": "float16",
    "litert_int8": "int8",
    "onnx": "float32",
    "saved_model": "float32",
}
"""What its numbers are."""
