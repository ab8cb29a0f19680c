from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from wherry.errors import BadName, BadSetting, BadURI
from wherry.wire.settings import load


@pytest.fixture
def folder(home: Path) -> Path:
    """Give a home that is there."""
    home.mkdir()
    return home


def test_defaults_differ_from_the_design(folder: Path) -> None:
    """Nothing said: the README's defaults, and where each came from."""
    settings = load({}, {}, folder)
    assert settings.store == f"file://{folder}/store"
    assert settings.project == "uncategorized"
    assert (settings.mode, settings.finish, settings.durability) == ("online", "wait", "process")
    assert (settings.home_lasts, settings.finish_timeout) == (None, 3600)
    assert (settings.reference_timeout_s, settings.idle_timeout_s) == (1800, 600)
    assert (settings.capture, settings.spool_timeout_s, settings.daemon) == ("auto", 60, None)
    assert set(settings.sources.values()) == {"default"}
    assert settings.unknown == ()


def test_weaker_place_wins(folder: Path) -> None:
    """Arguments win over environment, environment over config.toml, that over defaults."""
    config = folder / "config.toml"
    config.write_text('mode = "offline"\nproject = "file"\nfinish = "detach"\nspeed = 1\n')
    environ = {"WHERRY_PROJECT": "environment", "WHERRY_MODE": "disabled", "WHERRY_RUN_ID": ""}
    settings = load({"project": "argument", "mode": None, "run_id": ""}, environ, folder)
    assert settings.project == "argument"
    assert settings.sources["project"] == "argument"
    assert settings.mode == "disabled"
    assert settings.sources["mode"] == "WHERRY_MODE"
    assert settings.finish == "detach"
    assert settings.sources["finish"] == str(config)
    assert settings.run_id is None
    assert settings.unknown == ("speed",)


def test_values_keep_their_form(folder: Path) -> None:
    """Values are read in the forms that their place has."""
    (folder / "config.toml").write_text(
        "spool_quota_bytes = 1000\nspool_quota_inodes = 5\nmax_bandwidth = '20 MiB'\n"
        "spool_timeout_s = 0\nmax_transfers = 3\nhome_lasts = true\nlog_level = 'DEBUG'\n"
    )
    environ = {"WHERRY_HOME_LASTS": "No", "WHERRY_FINISH_TIMEOUT": "1.5"}
    settings = load({"store": Path("/data/x y"), "mode": "OFFLINE"}, environ, folder)
    assert (settings.spool_quota_bytes, settings.spool_quota_inodes) == (1000, 5)
    assert settings.max_bandwidth == 20 * 1024**2
    assert (settings.spool_timeout_s, settings.max_transfers) == (0, 3)
    assert settings.home_lasts is False
    assert settings.finish_timeout == 1.5
    assert settings.store == "file:///data/x%20y"
    assert (settings.mode, settings.log_level) == ("offline", "debug")


def test_half_a_megabyte_is_none(folder: Path) -> None:
    """Bytes may have a fraction, as people write them."""
    (folder / "config.toml").write_text(
        "max_bandwidth = '0.3 MB/s'\nspool_quota_bytes = '1.5 GiB'\n"
    )
    settings = load({}, {}, folder)
    assert settings.max_bandwidth == 300_000
    assert settings.spool_quota_bytes == 3 << 29


def test_store_misses_the_environment(folder: Path) -> None:
    """The store's address has the AWS endpoint and region folded in."""
    environ = {"WHERRY_STORE": "s3://bucket/p/", "AWS_REGION": "eu"}
    assert load({}, environ, folder).store == "s3://bucket/p?region=eu"


def test_file_setting_is_read_from_the_environment(folder: Path) -> None:
    """What stands only in config.toml has no variable."""
    assert load({}, {"WHERRY_CAPTURE": "copy"}, folder).capture == "auto"


@pytest.mark.parametrize(
    ("variable", "value", "allowed"),
    [
        ("WHERRY_MODE", "onlin", "online, offline, disabled"),
        ("WHERRY_FINISH", "1", "wait, detach"),
        ("WHERRY_DURABILITY", "fast", "process, power"),
        ("WHERRY_HOME_LASTS", "maybe", "yes, no"),
        ("WHERRY_FINISH_TIMEOUT", "soon", "seconds"),
        ("WHERRY_FINISH_TIMEOUT", "-1", "seconds"),
        ("WHERRY_FINISH_TIMEOUT", "nan", "seconds"),
        ("WHERRY_PROJECT", "a/b", "128 characters"),
        ("WHERRY_STORE", "ftp://x", "file:///"),
    ],
)
def test_bad_variable_is_used(folder: Path, variable: str, value: str, allowed: str) -> None:
    """A value that can't be used is an error with the variable and what is allowed."""
    with pytest.raises(BadSetting) as caught:
        load({}, {variable: value}, folder)
    assert variable in caught.value.message
    assert allowed in str(caught.value)


@pytest.mark.parametrize(
    "line",
    [
        "mode = 1",
        "project = 7",
        "capture = 'link'",
        "max_transfers = 0",
        "max_transfers = 1.5",
        "max_transfers = true",
        "max_bandwidth = 'fast'",
        "max_bandwidth = '.5 MB/s'",
        "max_bandwidth = '0.4 B/s'",
        "max_bandwidth = 0",
        "spool_quota_bytes = -1",
        "idle_timeout_s = 'x'",
        "log_level = 'loud'",
        "mode =",
    ],
)
def test_bad_line_is_used(folder: Path, line: str) -> None:
    """A value in config.toml that can't be used is an error with the file."""
    (folder / "config.toml").write_text(line)
    with pytest.raises(BadSetting) as caught:
        load({}, {}, folder)
    assert str(folder / "config.toml") in caught.value.message


@pytest.mark.parametrize("content", [b"\xff", None])
def test_unreadable_file_is_passed_over(folder: Path, content: bytes | None) -> None:
    """A config.toml that can't be read is an error, not no settings."""
    file = folder / "config.toml"
    file.mkdir() if content is None else file.write_bytes(content)
    with pytest.raises(BadSetting, match="can't be read"):
        load({}, {}, folder)


def test_bad_argument_loses_its_kind(folder: Path) -> None:
    """A name or store given as an argument fails as a name or store."""
    with pytest.raises(BadName):
        load({"project": "a/b"}, {}, folder)
    with pytest.raises(BadURI):
        load({"store": "s3://user:secret@bucket"}, {}, folder)
    with pytest.raises(BadSetting, match="mode is 'x'"):
        load({"mode": "x"}, {}, folder)


def test_settings_load_the_toml_parser(folder: Path) -> None:
    """Without a config.toml nothing is spent on reading one."""
    program = (
        "import sys, pathlib, wherry.wire.settings as s; s.load({}, {}, pathlib.Path(sys.argv[1]));"
        "sys.exit('tomllib' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program, folder], check=True)
