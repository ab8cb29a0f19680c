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


@pytest.mark.parametrize("page", _PAGES, ids=lambda page: page.name)
def test_link_leads_nowhere(page: Path) -> None:
    """Links between our files lead to files."""
    targets = re.findall(r"\]\(([^)#]+)", page.read_text())
    ours = [target for target in targets if "://" not in target]
    assert [target for target in ours if not (page.parent / target).exists()] == []


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
