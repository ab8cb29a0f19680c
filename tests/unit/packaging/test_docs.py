"""The pages agree with the files that they speak of."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from wherry.wire.settings import WITHOUT_EFFECT

_REPOSITORY = Path(__file__).resolve().parents[3]
_PAGES = [
    *_REPOSITORY.glob("*.md"),
    *_REPOSITORY.glob("docs/**/*.md"),
    *_REPOSITORY.glob("packaging/*.md"),
]
_SET_UP = """\
python3 -m venv .venv && .venv/bin/pip install uv
.venv/bin/uv pip install -e '.[daemon]' --group dev --compile-bytecode
"""


# What code says of a page: its path, and a numbered item or a heading of it.
_REFERENCE = re.compile(
    r"((?:docs|packaging)/[\w/-]+\.md|README\.md|CONTRIBUTING\.md)"
    r'(?:`*, (?:(promise|rule) (\d+)|"([^"]+)"))?'
)
_NUMBERED = {"promise": "docs/promises.md", "rule": "docs/commit.md"}
#: A numbered item with its page left out, or of a page that nobody but its writer has.
_UNPAGED = re.compile(r"\b(promise|rule) \d+\b")
_NOT_HERE = re.compile(r"\bdesign,? (?:section|\")|(?<!\w)reference/")


def _items(page: str) -> set[str]:
    """List what a page can be cited by: its headings and the numbers of its items."""
    text = (_REPOSITORY / page).read_text()
    return {
        *re.findall(r"^#+ (.+)$", text, re.MULTILINE),
        *re.findall(r"^(\d+)\. \*\*", text, re.MULTILINE),
    }


def _unresolved(text: str) -> list[str]:
    """Find what a file says of our pages that is not there."""
    plain = re.sub(r"\s*\n\s*(?:#:?|--|//)?\s*", " ", text)
    wrong = []
    for page, kind, number, heading in _REFERENCE.findall(plain):
        if not (_REPOSITORY / page).exists():
            wrong.append(page)
        elif (number or heading) and (number or heading) not in _items(page):
            wrong.append(f"{page}, {kind} {number}{heading}")
        elif kind and page != _NUMBERED[kind]:
            wrong.append(f"{page}, {kind}")
    wrong += [kind for kind in _UNPAGED.findall(plain) if _NUMBERED[kind] not in plain]
    return wrong + _NOT_HERE.findall(plain)


def _code() -> list[Path]:
    folders = ["client", "daemon", "tests", "protos", "scripts", "benchmarks", "examples", ".ci"]
    below = [path for folder in folders for path in (_REPOSITORY / folder).rglob("*")]
    kinds = {".py", ".sql", ".proto", ""}
    files = [path for path in below if path.suffix in kinds and path.is_file()]
    files += [_REPOSITORY / "pyproject.toml", _REPOSITORY / "Makefile"]
    return [path for path in files if path != Path(__file__)]


def test_code_names_what_no_page_has() -> None:
    """What code and tests say of a page (a promise, a rule, a chapter) stands on that page."""
    wrong = {str(path): found for path in _code() if (found := _unresolved(path.read_text()))}
    assert wrong == {}


@pytest.mark.parametrize(
    "text",
    [
        "docs/no-such-page.md",
        "(docs/promises.md, promise 10)",
        "(docs/commit.md,\n# rule 11)",
        "(docs/commit.md, promise 1)",
        '(docs/design.md, "No such chapter")',
        "as promise 1 has it",
        "docs/promises.md and then rule 5",
        "(design section 4)",
        '(design, "The commit")',
        "from reference/surface.md",
    ],
)
def test_dangling_reference_goes_unseen(text: str) -> None:
    """The look for references finds one that leads nowhere."""
    assert _unresolved(text)


def test_numbers_have_holes() -> None:
    """Promises and rules are numbered from 1 on, so that a number says which one is meant."""
    for page, count in (("docs/promises.md", 9), ("docs/commit.md", 10)):
        numbers = [item for item in _items(page) if item.isdigit()]
        assert sorted(map(int, numbers)) == list(range(1, count + 1))


@pytest.mark.parametrize("page", _PAGES, ids=lambda page: page.name)
def test_page_names_a_file_that_is_not_there(page: Path) -> None:
    """What a page writes like a path of the repository is one."""
    tops = "client|daemon|tests|docs|scripts|benchmarks|examples|protos|packaging"
    named = re.findall(rf"`((?:{tops})/[\w./-]+)`", page.read_text())
    assert [path for path in named if not (_REPOSITORY / path).exists()] == []


@pytest.mark.parametrize("page", _PAGES, ids=lambda page: page.name)
def test_link_leads_nowhere(page: Path) -> None:
    """Links between our files lead to files, and to headings that are in them."""
    targets = re.findall(r"\]\(([^)]+)\)", page.read_text())
    ours = [target.partition("#") for target in targets if "://" not in target]
    assert [path for path, _, _ in ours if not (page.parent / path).exists()] == []
    anchors = {
        (path, anchor): (page.parent / path if path else page).read_text()
        for path, _, anchor in ours
        if anchor
    }
    assert [at for at, text in anchors.items() if at[1] not in _anchors(text)] == []


def _anchors(text: str) -> set[str]:
    """Make headings' anchors as the forges do: lower case, no punctuation, hyphens for blanks."""
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def _targets_in_makefile() -> set[str]:
    (line,) = re.findall(r"^\.PHONY: (.+)$", (_REPOSITORY / "Makefile").read_text(), re.MULTILINE)
    return set(line.split())


def test_readme_forgets_a_target() -> None:
    """Each of make's targets has its line in the README, and no other."""
    lines = re.findall(
        r"^\| `make (\w+)` \|", (_REPOSITORY / "README.md").read_text(), re.MULTILINE
    )
    assert sorted(lines) == sorted(_targets_in_makefile())


def test_setting_without_effect_is_promised() -> None:
    """The README names what is read and has no effect yet, all of it and nothing else."""
    (told,) = re.findall(
        r"\*\*without effect\s+yet\*\*: (.+?)\.\n",
        (_REPOSITORY / "README.md").read_text(),
        re.DOTALL,
    )
    assert set(re.findall(r"`(\w+)`", told)) == WITHOUT_EFFECT


def test_benchmark_is_not_there() -> None:
    """The benchmarks that pages and the runner's own help name are there, under such a name."""
    runner = (_REPOSITORY / "benchmarks/__main__.py").read_text()
    named = re.findall(r'"(\w+)" for (bench_\w+)\.py', runner)
    pages = "\n".join(page.read_text() for page in _PAGES)
    named += [(name, name) for name in re.findall(r"make bench ARGS=(\w+)", pages)]
    files = [path.stem for path in (_REPOSITORY / "benchmarks").glob("bench_*.py")]
    assert len(named) > 1
    assert [name for name, stem in named if not any(name in f and stem in f for f in files)] == []


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md"])
def test_set_up_differs(page: str) -> None:
    """The two commands that set everything up are the same on every page."""
    assert _SET_UP in (_REPOSITORY / page).read_text()


def test_make_sets_up_something_else(tmp_path: Path) -> None:
    """`make setup` gives the two commands of the README."""
    (tmp_path / "pyproject.toml").touch()
    done = subprocess.run(
        ["make", "--dry-run", "-f", _REPOSITORY / "Makefile", "setup"],
        cwd=tmp_path,
        check=True,
        capture_output=True,
        text=True,
    )
    wanted = _SET_UP.replace("&&", "\n").split()
    said = done.stdout.split()
    assert [word for word in wanted if word not in said] == []


def test_decision_is_not_listed() -> None:
    """The list of decisions is the folder."""
    folder = _REPOSITORY / "docs/decisions"
    listed = re.findall(r"\]\((\d{4}-[^)]+)\)", (folder / "README.md").read_text())
    assert listed == sorted(path.name for path in folder.glob("[0-9]*.md"))
