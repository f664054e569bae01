"""`benchmarks.how_far`: a few cells by hand, and that its record is what the other records give."""

import json

import pytest

from benchmarks.how_far import (
    IMAGENET_1K,
    IMAGENET_21K,
    KILOBYTES,
    PRICE,
    RATE,
    VIEWS,
    Inputs,
    gigabytes,
    inputs,
    tables,
    teacher_pass,
)
from benchmarks.record import RESULTS

GIVEN = Inputs(
    rate=1000,
    price=2,
    views=10,
    kilobytes=100,
    efficiency={1: 1.0, 8: 0.5},
    writer={"float16": 8000, "the 10 largest": 100_000},
    split={"copies": 0.002, "images where they are": 0.001},
    cores=2,
)
"""Round numbers: 8 GPUs label 4,000 rows a second, 64 of them 32,000."""

RECORDS = {
    "split_photographs": {
        "machine": {"cores": 4},
        "measured": {
            "sizes": [
                {"of": "JPEG, 224 px", "count": 10, "seconds": {"split": [9, 2, 1], "in place": [1, 1, 5]}},
            ]
        },
    },
    "workers": {"measured": {"efficiency": {"1": 1.0, "8": 0.9}}},
    "large_run": {
        "tables": [
            {"title": "A run", "header": ["step"], "rows": []},
            {
                "title": "The writer: 1,000 rows",
                "header": ["storage", "rows/s", "MB/s"],
                "rows": [
                    ["dense, float32", "1", "2"],
                    ["dense, float16", "30,000", "3"],
                    ["top-k, k 10, float16", "9", "4"],
                ],
            },
        ]
    },
}


def test_a_pass_that_the_teacher_limits():
    """12,811,670 rows at 4,000 a second are 3,202.9 s; 8 GPUs at 2 an hour; 400 images of 100 kB a second."""
    computed = teacher_pass(IMAGENET_1K, "float16", 8, GIVEN)
    assert computed.limit == "teacher"
    assert computed.hours == pytest.approx(0.88970, rel=1e-4)
    assert computed.cost == pytest.approx(14.235, rel=1e-4)
    assert computed.megabytes_a_second == pytest.approx(40)


def test_where_the_writer_limits_more_gpus_gain_nothing():
    """The 32,000 rows a second of 64 GPUs are four times what the writer takes."""
    by_64, by_512 = (teacher_pass(IMAGENET_1K, "float16", gpus, GIVEN) for gpus in (64, 512))
    assert by_64.limit == by_512.limit == "writer"
    assert by_64.hours == by_512.hours == pytest.approx(12_811_670 / 8000 / 3600)
    assert by_512.cost == pytest.approx(8 * by_64.cost)


def test_more_classes_slow_the_writer_in_proportion():
    """100,000 rows of 1,000 logits are 4,578.5 rows of 21,841: more than 8 GPUs label, less than 64."""
    assert GIVEN.written(IMAGENET_21K, "the 10 largest") == pytest.approx(4578.5, rel=1e-4)
    limits = [teacher_pass(IMAGENET_21K, "the 10 largest", gpus, GIVEN).limit for gpus in (8, 64)]
    assert limits == ["teacher", "writer"]


def test_bytes_of_the_logits():
    """2,000 bytes a row of 1,000 logits in float16; 10 x (2 + 2) + 2 x 4 bytes a row of the 10 largest."""
    assert gigabytes(IMAGENET_1K, "float16", 10) == pytest.approx(25.62334)
    assert gigabytes(IMAGENET_21K, "the 10 largest", 10) == pytest.approx(6.814619, rel=1e-6)


def test_hours_of_split():
    """14,197,122 images of 1 and 2 ms are 3.94 and 7.89 hours."""
    of_split = tables(GIVEN)[-1]
    assert "2 cores" in of_split["title"]
    assert [row[2] for row in of_split["rows"]] == ["0.71", "0.36", "7.89", "3.94"]


def test_what_keeps_the_writer_busy():
    """It takes 8,000 rows a second of 1,000 classes; each of 512 GPUs labels 500."""
    (row, *_) = tables(GIVEN)[-2]["rows"]
    assert row == ["ImageNet-1k", "float16", "8,000", "16.0"]


def test_inputs_are_taken_from_the_records(tmp_path):
    for name, record in RECORDS.items():
        (tmp_path / f"{name}.json").write_text(json.dumps(record))
    given = inputs(tmp_path, rate=1, price=1, views=1, kilobytes=1)
    assert given.efficiency == {1: 1.0, 8: 0.9}
    assert given.writer == {"float16": 30_000, "the 10 largest": 9}
    assert given.split == {"copies": 0.2, "images where they are": 0.1}
    assert given.cores == 4


def test_the_record_is_what_the_other_records_give():
    record = RESULTS / "how_far.json"
    if not record.is_file():
        pytest.skip("benchmarks.how_far was not run yet")
    given = inputs(RESULTS, rate=RATE, price=PRICE, views=VIEWS, kilobytes=KILOBYTES)
    assert json.loads(record.read_text(encoding="utf-8"))["tables"] == tables(given)
