"""Metadata that is no JSON: refused at the call; what is JSON comes back as it was."""

from __future__ import annotations

import json

from tests.support.machine import Machine
from tests.support.reading import FolderObjects
from tests.support.troubles import CASES, check, outcomes

METADATA = """
import math
run = wherry.init(project="p")
circle = {}; circle["self"] = circle
deep = current = {}
for _ in range(5000): current["x"] = current = {}
BAD = {
    "object": {"deep": [{"x": object()}]}, "bytes": {"x": b"x"}, "set": {"x": {1}},
    "circle": circle, "endless": deep, "not_utf8": {"x": "\\udcff"},
    "key_not_utf8": {"\\udcff": 1}, "big": {"x": "x" * (1 << 20)}, "function": {"x": print},
    "list": [1, 2], "text": "text", "number": 17,
}
for each, bad in BAD.items():
    def given(): wherry.Artifact("a", type="model", metadata=bad)
    def set_later():
        later = wherry.Artifact("later", type="model")
        later.metadata = bad
    def changed_in_place():
        changed = wherry.Artifact("changed", type="model", metadata={})
        changed.metadata.update(bad)
        run.log_artifact(changed)
    for function in (given, set_later) + ((changed_in_place,) if isinstance(bad, dict) else ()):
        function.__name__ += "_" + each
        case(function)
@case
def description(): wherry.Artifact("a", type="model", description=17)

GOOD = {
    "int": 1, "float": 1.0, "big_int": 2**60, "big_float": 1e300, "round_float": 1e16, "small": 5e-324,
    "negative_zero": -0.0, "true": True, "none": None, "text": "é\\u2028 \\U0001f600", "list": [1, [2.5]],
    "tuple": (1, 2), "nan": math.nan, "inf": math.inf, "minus_inf": -math.inf, 7: "key", "": "empty",
    "nested": {"nan": [math.nan]}, "huge_int": 2**200, "minus": -(2**70),
}
with_floats = wherry.Artifact("good", type="model", metadata=GOOD)
run.log_artifact(with_floats)
nearly = wherry.Artifact("nearly", type="model", metadata={"x": "x" * ((1 << 20) - 100)})
run.log_artifact(nearly)
with_floats.wait(60); nearly.wait(60)
got = run.use_artifact("good:latest").metadata
print(json.dumps([got, with_floats.metadata]))
run.finish()
tell()
"""


def test_bad_metadata_gets_in(machine: Machine) -> None:
    """What is not JSON raises ``BadMetadata`` where it is given, in place changes at the log."""
    printed = machine.run(CASES + METADATA)
    found = outcomes(printed)
    assert "ValueError" in found.pop("description")["kinds"]
    check(found, dict.fromkeys(found, ("BadMetadata", "")))
    assert len(found) == 12 * 2 + 9
    kept = ["good", "nearly"]
    keys = FolderObjects(machine.home / "store").keys("p/artifacts/")
    assert sorted({key.split("/")[2] for key in keys}) == kept

    stored, own = json.loads(printed.splitlines()[0])
    wanted = {
        "int": 1,
        "float": 1.0,
        "big_int": 2**60,
        "big_float": 1e300,
        "round_float": 1e16,
        "small": 5e-324,
        "negative_zero": -0.0,
        "true": True,
        "none": None,
        "text": "é\u2028 \U0001f600",
        "list": [1, [2.5]],
        "tuple": [1, 2],
        "nan": "NaN",
        "inf": "Infinity",
        "minus_inf": "-Infinity",
        "7": "key",
        "": "empty",
        "nested": {"nan": ["NaN"]},
        "huge_int": 2**200,
        "minus": -(2**70),
    }
    for shown in (stored, own):
        assert list(shown) == list(wanted)
        # repr, because 1 == 1.0 == True
        assert {key: repr(value) for key, value in shown.items()} == {
            key: repr(value) for key, value in wanted.items()
        }


NUMPY = """
import json
import numpy as np
import wherry
with wherry.init(project="p") as run:
    a = wherry.Artifact("np", type="model", metadata={
        "f64": np.float64(1.0), "f32": np.float32(0.5), "i": np.int64(7), "b": np.bool_(True),
        "a": np.arange(4).reshape(2, 2), "nan": np.array([np.nan, -np.inf]), "s": np.str_("text"),
        np.int64(3): 1, "zero": np.array(5), "empty": np.zeros((0, 2)),
        "long": np.longdouble(0.25), "longs": np.array([0.5, 1], dtype=np.longdouble),
    })
    run.log_artifact(a)
    a.wait(60)
    print(json.dumps(run.use_artifact("np:latest").metadata))
    for bad in (np.complex128(1j), np.array([object()]), np.datetime64("2020-01-01")):
        try:
            wherry.Artifact("bad", type="model", metadata={"x": bad})
        except wherry.errors.BadMetadata:
            print("refused")
"""


def test_numpy_metadata_changes_kind(machine: Machine) -> None:
    """Scalars and arrays of numpy become numbers and lists."""
    metadata, *refused = machine.run(NUMPY).splitlines()
    got = {key: repr(value) for key, value in json.loads(metadata).items()}
    wanted = {
        "f64": 1.0,
        "f32": 0.5,
        "i": 7,
        "b": True,
        "a": [[0, 1], [2, 3]],
        "nan": ["NaN", "-Infinity"],
        "s": "text",
        "3": 1,
        "zero": 5,
        "empty": [],
        "long": 0.25,
        "longs": [0.5, 1.0],
    }
    assert got == {key: repr(value) for key, value in wanted.items()}
    assert refused == ["refused"] * 3
