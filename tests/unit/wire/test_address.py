from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wherry.errors import BadURI
from wherry.wire.address import credentials_from, normalize_store, split_store


@pytest.mark.parametrize(
    ("uri", "expected"),
    [
        ("/data/store", "file:///data/store"),
        ("/data//store/./", "file:///data/store"),
        ("//data", "file:///data"),
        ("/", "file:///"),
        ("/a b/é%?#", "file:///a%20b/%C3%A9%25%3F%23"),
        ("file:///data/store/", "file:///data/store"),
        ("file:/data", "file:///data"),
        ("FILE://localhost/a%20b/%C3%A9", "file:///a%20b/%C3%A9"),
        ("s3://bucket", "s3://bucket"),
        ("s3://bucket/", "s3://bucket"),
        ("S3://bucket/a b/c%20d/", "s3://bucket/a b/c%20d"),
        (
            "s3://b-1/p?region=eu-west-1&endpoint_url=HTTP://LocalHost:80/x/&addressing=path",
            "s3://b-1/p?addressing=path&endpoint_url=http://localhost/x&region=eu-west-1",
        ),
        (
            "s3://bucket?endpoint_url=https%3A%2F%2F%5B%3A%3A1%5D%3A9000",
            "s3://bucket?endpoint_url=https://%5B::1%5D:9000",
        ),
        ("s3://bucket?region=", "s3://bucket"),
        (
            "s3://bucket?region=r&commit=single-writer&endpoint_url=http://h",
            "s3://bucket?commit=single-writer&endpoint_url=http://h&region=r",
        ),
    ],
)
def test_one_store_has_two_addresses(uri: str, expected: str) -> None:
    """Each spelling of a store becomes one address, which stays as it is."""
    assert normalize_store(uri, {}) == expected
    assert normalize_store(expected, {}) == expected


def test_path_is_taken_literally(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Paths may be relative, begin with ~, be a Path, and lead through `..` as the system reads it."""
    monkeypatch.chdir(tmp_path)
    here = tmp_path.resolve()
    (tmp_path / "deep/er").mkdir(parents=True)
    (tmp_path / "link").symlink_to("deep/er")
    assert normalize_store("store", {}) == f"file://{here}/store"
    assert normalize_store("~/store", {}) == f"file://{os.environ['HOME']}/store"
    assert normalize_store(Path("/a"), {}) == "file:///a"
    assert normalize_store("link/../x", {}) == f"file://{here}/deep/x"


_S3 = "AWS_ENDPOINT_URL_S3"


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({"AWS_ENDPOINT_URL": "http://a:1"}, "s3://bkt/p?endpoint_url=http://a:1"),
        ({"AWS_ENDPOINT_URL": "http://a:1", _S3: "http://b"}, "s3://bkt/p?endpoint_url=http://b"),
        ({_S3: "http://b", "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS": "true"}, "s3://bkt/p"),
        ({"AWS_DEFAULT_REGION": "d"}, "s3://bkt/p?region=d"),
        ({"AWS_DEFAULT_REGION": "d", "AWS_REGION": "r"}, "s3://bkt/p?region=r"),
    ],
)
def test_environment_is_not_folded_in(environ: dict[str, str], expected: str) -> None:
    """The usual AWS variables fill in what the URI leaves open, and nothing else."""
    assert normalize_store("s3://bkt/p", environ) == expected
    said = "s3://bkt/p?endpoint_url=http://own&region=own"
    assert normalize_store(said, environ) == said


@pytest.mark.parametrize(
    "uri",
    [
        "",
        "ftp://host/x",
        "http://host/bucket",
        "file://host/x",
        "file:///x?y=1",
        "file:///a%00b",
        "/a\nb",
        "s3://",
        "s3:///prefix",
        "s3://ab",
        "s3://bucket/a//b",
        "s3://bucket/../b",
        "s3://bucket/./b",
        "s3://bucket?speed=high",
        "s3://bucket?endpoint_url=host:9000",
        "s3://bucket?endpoint_url=http://",
        "s3://bucket?endpoint_url=http://host:port",
        "s3://bucket?endpoint_url=http://host/?x=1",
        "s3://bucket?endpoint_url=http://ex_ample..com",
        f"s3://bucket?endpoint_url=http://{'a' * 64}.com",
        "s3://bucket?endpoint_url=http://[::1",
        "s3://bucket?region=eu west 1",
        "s3://bucket?region=-",
        "s3://bucket?addressing=diagonal",
        "s3://bucket?commit=two-writers",
        "gs://bucket?commit=single-writer",
    ],
)
def test_what_is_no_store_is_taken(uri: str) -> None:
    """What can't be a store is refused, with the forms that can."""
    with pytest.raises(BadURI) as caught:
        normalize_store(uri, {})
    assert caught.value.hint


@pytest.mark.parametrize(
    "uri",
    [
        "s3://KEY:hunter2@bucket/p",
        "s3://hunter2@bucket",
        "s3://bucket?aws_secret_access_key=hunter2",
        "s3://bucket?session_token=hunter2",
        "s3://bucket?endpoint_url=http://user:hunter2@host",
        "s3://bucket?endpoint_url=http://user:hunter2@host:port",
        "weird://user:hunter2@host/x",
    ],
)
def test_secret_is_taken_or_shown(uri: str) -> None:
    """Credentials in the URI are refused, and the message does not repeat them."""
    with pytest.raises(BadURI) as caught:
        normalize_store(uri, {})
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    ("uri", "emulator", "expected"),
    [
        ("gs://bucket/prefix/", "", "gs://bucket/prefix"),
        ("GS://bucket", "", "gs://bucket"),
        ("gs://bucket?endpoint_url=HTTP://h:80/", "", "gs://bucket?endpoint_url=http://h"),
        ("gs://bucket/p", "localhost:4443", "gs://bucket/p?endpoint_url=http://localhost:4443"),
        ("gs://bucket", "https://h:4443/", "gs://bucket?endpoint_url=https://h:4443"),
        ("gs://bucket?endpoint_url=http://h:1", "h:2", "gs://bucket?endpoint_url=http://h:1"),
    ],
)
def test_google_has_another_address(uri: str, emulator: str, expected: str) -> None:
    """A bucket of Google's has its prefix and an endpoint, the address's or the environment's; nothing of
    AWS's environment.
    """
    environ = {"STORAGE_EMULATOR_HOST": emulator, "AWS_REGION": "r", "AWS_ENDPOINT_URL": "http://a"}
    address = normalize_store(uri, environ)
    assert address == expected
    assert normalize_store(address, {}) == address


@pytest.mark.parametrize(
    "uri",
    ["gs://bucket?region=r", "gs://bu", "gs://bucket/a//b", "gs://x@bucket", "gs://bucket?key=k"],
)
def test_google_is_misunderstood(uri: str) -> None:
    """What is no bucket of Google's, or has options that are S3's, is refused."""
    with pytest.raises(BadURI) as caught:
        normalize_store(uri, {})
    assert "AWS" not in str(caught.value)


@given(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs", "Cc"]), min_size=1))
def test_folder_is_lost_in_its_address(name: str) -> None:
    """A folder can be found again from its address, whatever it is called."""
    if name.strip("/") not in ("", ".", "..") and "/" not in name:
        assert split_store(normalize_store(f"/data/{name}", {})).path == f"/data/{name}"


def test_address_is_taken_apart_wrongly() -> None:
    """The parts of an address are those that were given."""
    address = normalize_store("s3://bkt/a b/c?endpoint_url=http://[::1]:9/&addressing=path", {})
    assert split_store(address) == (
        "s3",
        "bkt",
        "a b/c",
        {"endpoint_url": "http://[::1]:9", "addressing": "path"},
    )
    assert split_store("s3://bkt") == ("s3", "bkt", "", {})
    assert split_store("file:///") == ("file", "", "/", {})


def test_foreign_variables_are_sent() -> None:
    """Credentials and the ways to them go to the daemon, empty and other variables don't."""
    environ = {
        "AWS_ACCESS_KEY_ID": "a",
        "AWS_SECRET_ACCESS_KEY": "b",
        "AWS_SESSION_TOKEN": "",
        "AWS_PROFILE": "p",
        "AWS_REQUEST_PAYER": "requester",
        "AWS_REGION": "r",
        "PATH": "/bin",
    }
    assert sorted(credentials_from(environ)) == [
        "AWS_ACCESS_KEY_ID",
        "AWS_PROFILE",
        "AWS_REQUEST_PAYER",
        "AWS_SECRET_ACCESS_KEY",
    ]


def test_googles_paths_stay_relative() -> None:
    """For a bucket of Google's the ways to its credentials are sent, made absolute."""
    environ = {
        "GOOGLE_APPLICATION_CREDENTIALS": "key.json",
        "AWS_PROFILE": "p",
        "CLOUDSDK_CONFIG": "",
        "GS_USER_PROJECT": "who-pays",
    }
    here = os.getcwd()
    assert credentials_from(environ, "gs://bucket") == {
        "GOOGLE_APPLICATION_CREDENTIALS": f"{here}/key.json",
        "GS_USER_PROJECT": "who-pays",
    }
