# SPDX-License-Identifier: Apache-2.0
"""The golden vectors through `iotgw convert --vectors`. unsupported.txt lists the ids that a later version serves; it can
only shrink: an id that is listed and passes, or is not in the files, fails the test as much as one that fails unlisted."""
import json
import os
import pathlib
import subprocess

import pytest

import importlib.util

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent
IOTGW = pathlib.Path(os.environ.get("IOTGW_BUILD", ROOT / "build")) / "iotgw"

_spec = importlib.util.spec_from_file_location("judge", HERE / "judge.py")
judge = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(judge)

FILES = sorted(HERE.glob("*.jsonl"))
LISTED = {line.split()[0] for line in (HERE / "unsupported.txt").read_text().splitlines() if line.strip() and line[0] != "#"}


def vectors_of(path):
    return [json.loads(line) for line in path.read_text().splitlines() if line.strip()]


@pytest.fixture(scope="module", params=FILES, ids=lambda path: path.stem)
def answered(request, tmp_path_factory):
    vectors = vectors_of(request.param)
    lines = "".join(judge.question(v, tmp_path_factory.mktemp("extensions")) for v in vectors)
    run = subprocess.run([IOTGW, "convert", "--vectors"], input=lines.encode(), stdout=subprocess.PIPE, timeout=120, check=False)
    assert run.returncode == 0
    answers = {}
    for line in run.stdout.decode().splitlines():
        answer = json.loads(line)
        assert answer["id"] not in answers, "answered twice"
        answers[answer["id"]] = answer
    return vectors, answers


def test_every_vector_passes_unless_listed(answered):
    vectors, answers = answered
    failed = [(v, answers.get(v["id"])) for v in vectors if v["id"] not in LISTED and not judge.judge(v, answers.get(v["id"]))]
    assert not failed, "\n".join(f"{v['id']}: want {json.dumps(v['expect'])[:600]} got {json.dumps(g)[:600]}" for v, g in failed[:10])


def test_listed_vectors_are_answered_as_unsupported(answered):
    vectors, answers = answered
    for v in vectors:
        if v["id"] in LISTED:
            assert "unsupported" in answers.get(v["id"], {}), f"{v['id']} is served now: take it off unsupported.txt"


def test_list_names_only_vectors_that_exist():
    assert LISTED <= {v["id"] for path in FILES for v in vectors_of(path)}


@pytest.mark.parametrize("garbage", [b"\n", b"{}\n", b"[1,2\n", b"null\n", b'{"id":1}\n', b'{"id":"x","connector":"mqtt","config":5,"input":{}}\n', b"\xff\xfe\n"])
def test_a_bad_line_never_ends_the_program(garbage):
    good = json.dumps({"id": "good", "connector": "expressions", "input": {"expression": "${a}", "data": {"a": 1}, "mode": "value"}})
    run = subprocess.run([IOTGW, "convert", "--vectors"], input=garbage + good.encode() + b"\n", stdout=subprocess.PIPE, timeout=30, check=False)
    assert run.returncode == 0
    assert {"id": "good", "value": 1} in [json.loads(line) for line in run.stdout.decode().splitlines()]
