"""Paths and names that can't be: refused at the call, and nothing of them gets into the store."""

from __future__ import annotations

from tests.support.machine import Machine
from tests.support.reading import content
from tests.support.troubles import CASES, check, outcomes

PATHS = """
with open("x", "w") as f: f.write("x")
with open("y", "w") as f: f.write("y")
os.makedirs(b"odd"); open(b"odd/\\xff", "wb").close()
os.makedirs("folder"); open("folder/x", "w").close()
run = wherry.init(project="p")
a = wherry.Artifact("paths", type="model")

BAD = {
    "up": "../x", "up_inside": "a/../x", "up_at_the_end": "a/..", "only_up": "..",
    "absolute": "/etc/x", "empty_segment": "a//x", "ends_in_slash": "a/", "nul": "a\\0x",
    "not_utf8": "a\\udcff",
}
for each, bad in BAD.items():
    def add(): return a.add_file("x", name=bad)
    def new():
        with a.new_file(bad) as f: f.write("x")
    def folder(): return a.add_dir("folder", name=bad)
    def refer(): return a.add_reference("file://" + os.path.abspath("x"), name=bad)
    as_prefix = () if each == "ends_in_slash" else (folder, refer)  # there it is often written
    for function in (add, new, *as_prefix):
        function.__name__ += "_" + each
        case(function)

@case
def not_utf8_in_folder(): a.add_dir("odd")
@case
def not_utf8_file(): a.add_file(os.fsdecode(b"odd/\\xff"))

a.add_file("x", name="taken")
@case
def taken_by_another_file(): a.add_file("y", name="taken")
@case
def taken_by_a_new_file():
    with a.new_file("taken") as f: f.write("z")
@case
def taken_by_a_reference(): a.add_reference("file://" + os.path.abspath("y"), name="taken")
a.add_file("y", name="taken/below")
@case
def a_file_as_folder(): run.log_artifact(a)
a.remove("taken/below")
@case
def same_unchanged_file(): return a.add_file("x", name="taken")
with open("x", "a") as f: f.write("changed")
@case
def same_changed_file(): a.add_file("x", name="taken")
@case
def overwritten(): return a.add_file("y", name="taken", overwrite=True)

@case
def mode_to_read(): a.new_file("mode", mode="r").__enter__()
@case
def encoding():
    with a.new_file("ascii", encoding="ascii") as f: f.write("é")
@case
def exception_in_block():
    with a.new_file("half") as f:
        f.write("half")
        raise KeyError("of the user")

for again in ("ascii", "half"):
    with a.new_file(again) as f: f.write("whole")
run.log_artifact(a)
run.finish()
tell()
"""


def test_bad_path_gets_in(machine: Machine) -> None:
    """Paths that leave the artifact or are none raise at the call, by whatever call they come."""
    found = outcomes(machine.run(CASES + PATHS))
    bad = {
        "up": "../x",
        "up_inside": "a/../x",
        "up_at_the_end": "a/..",
        "only_up": "..",
        "absolute": "/etc/x",
        "empty_segment": "a//x",
        "ends_in_slash": "a/",
        "nul": "",
        "not_utf8": "",
    }
    wanted = {
        f"{call}_{each}": ("BadPath", text)
        for each, text in bad.items()
        for call in ("add", "new", *(() if each == "ends_in_slash" else ("folder", "refer")))
    }
    foreign = {"encoding": "UnicodeEncodeError", "exception_in_block": "KeyError"}
    for name, kind in foreign.items():
        assert found.pop(name)["raised"] == kind
    check(
        found,
        {
            **wanted,
            "not_utf8_in_folder": ("BadPath", "odd"),
            "not_utf8_file": ("BadPath", ""),
            "taken_by_another_file": ("PathTaken", "taken"),
            "taken_by_a_new_file": ("PathTaken", "taken"),
            "taken_by_a_reference": ("PathTaken", "taken"),
            "a_file_as_folder": ("PathTaken", "taken"),
            "same_unchanged_file": ("", "taken"),
            "same_changed_file": ("PathTaken", "taken"),
            "overwritten": ("", "taken"),
            "mode_to_read": ("ValueError", "r"),
        },
    )
    assert content(machine.home, "paths") == [{"taken": b"y", "ascii": b"whole", "half": b"whole"}]


NAMES = """
run = wherry.init(project="p")
BAD = {
    "empty": "", "slash": "a/b", "colon": "a:b", "dot": ".", "dots": "..", "long": "n" * 129,
    "control": "a\\nb", "nul": "a\\0b", "not_utf8": "a\\udcff", "wide": "\\U0001f600" * 128,
    "number": 17, "none": None,
}
for each, bad in BAD.items():
    def name(): wherry.Artifact(bad, type="model")
    def type_(): wherry.Artifact("a", type=bad)
    def alias(): run.log_artifact(wherry.Artifact("never", type="model"), aliases=[bad])
    def project(): wherry.init(project=bad)
    def group(): wherry.init(project="p", group=bad)
    def run_id(): wherry.init(project="p", id=bad)
    for function in (name, type_, alias) + (() if bad in (None, "") else (project, group, run_id)):
        function.__name__ += "_" + each
        case(function)

@case
def alias_version(): run.log_artifact(wherry.Artifact("never", type="model"), aliases=["v3"])
@case
def path_name(): run.log_artifact(sys.executable, name="a/b/c/d", type="model")

wherry.finish()
with wherry.init(project="p") as run:
    longest = wherry.Artifact("n" * 128, type="t" * 128)
    run.log_artifact(longest, aliases=["a" * 128, "latest", "", "ünï cödé"])
    longest.wait(60)
    print(sorted(run.use_artifact("n" * 128 + ":ünï cödé").aliases))
tell()
"""


def test_bad_name_gets_in(machine: Machine) -> None:
    """Names out of range raise ``BadName`` where they are given; those in range all work."""
    printed = machine.run(CASES + NAMES)
    found = outcomes(printed)
    # "" among aliases adds nothing, and None is no list of names for an artifact either
    assert found.pop("alias_empty")["raised"] is None
    numbers = {"project_number", "group_number", "run_id_number"}
    check(found, {name: ("UsageError" if name in numbers else "BadName", "") for name in found})
    assert len(found) == 2 + 12 * 3 - 1 + 10 * 3
    aliases = printed.splitlines()[0]
    assert "a" * 128 in aliases and "latest" in aliases and "ünï cödé" in aliases
