"""Host, path and region of a bucket."""

from __future__ import annotations

from pathlib import Path

import pytest

from wherry.wire.address import normalize_store, split_store
from wherryd.stores.credentials import OWN, CredentialSet
from wherryd.stores.s3.place import NoPlace, find_place, move

PLACES = {
    "s3://cats?region=eu-west-1": "https://cats.s3.eu-west-1.amazonaws.com/k%20ey",
    "s3://cats/p/q?region=eu-west-1": "https://cats.s3.eu-west-1.amazonaws.com/p/q/k%20ey",
    "s3://cats.dogs?region=eu-west-1": "https://s3.eu-west-1.amazonaws.com/cats.dogs/k%20ey",
    "s3://cats?region=eu-west-1&addressing=path": "https://s3.eu-west-1.amazonaws.com/cats/k%20ey",
    "s3://cats?region=cn-north-1": "https://cats.s3.cn-north-1.amazonaws.com.cn/k%20ey",
    "s3://cats?endpoint_url=http://host:9000": "http://host:9000/cats/k%20ey",
    "s3://cats/p?endpoint_url=http://host:9000": "http://host:9000/cats/p/k%20ey",
    "s3://cats?endpoint_url=https://host/s3": "https://host/s3/cats/k%20ey",
    "s3://cats?endpoint_url=https://host&addressing=virtual": "https://cats.host/k%20ey",
    "s3://cats?endpoint_url=http://[::1]:9000": "http://[::1]:9000/cats/k%20ey",
}


REGIONS = {
    "https://id.r2.cloudflarestorage.com": "auto",
    "https://id.eu.r2.cloudflarestorage.com": "auto",
    "https://storage.googleapis.com": "auto",
    "https://s3.us-west-004.backblazeb2.com": "us-west-004",
    "https://s3.eu-west-1.amazonaws.com": "eu-west-1",
    "https://s3.cn-north-1.amazonaws.com.cn": "cn-north-1",
    "https://s3.amazonaws.com": "us-east-1",
    "https://minio.example.org:9000": "us-east-1",
    "https://backblazeb2.com.example.org": "us-east-1",
}


@pytest.mark.parametrize(("endpoint", "region"), REGIONS.items(), ids=REGIONS.keys())
async def test_a_known_server_is_signed_for_elsewhere(endpoint: str, region: str) -> None:
    """Where nobody names a region, it is the one that the server's host stands for; a named one rules."""
    place = await find_place(split_store(f"s3://cats?endpoint_url={endpoint}"), OWN)
    assert place.region == region
    named = await find_place(split_store(f"s3://cats?endpoint_url={endpoint}&region=r"), OWN)
    assert named.region == "r"


@pytest.mark.parametrize(("address", "url"), PLACES.items(), ids=PLACES.keys())
async def test_a_bucket_is_looked_for_elsewhere(address: str, url: str) -> None:
    """On AWS the bucket is part of the host's name; at another endpoint part of the path."""
    place = await find_place(split_store(normalize_store(address, {})), OWN)
    assert place.url("k ey") == url


PROFILES = """
[default]
region = x
[profile cats]
region = eu-north-1
endpoint_url = http://host:1
[profile lab]
endpoint_url = http://lab
s3 =
  addressing_style = virtual
[profile aws]
region = eu-west-1
s3 =
  addressing_style = path
[profile auto]
s3 =
  addressing_style = auto
[profile services]
services = here
[services here]
s3 =
  endpoint_url = http://service
"""


def _profile(tmp_path: Path, name: str) -> CredentialSet:
    config = tmp_path / "config"
    config.write_text(PROFILES)
    return CredentialSet({"AWS_PROFILE": name, "AWS_CONFIG_FILE": str(config)})


@pytest.mark.parametrize(
    ("address", "profile", "region", "url"),
    [
        ("s3://bucket", "cats", "eu-north-1", "http://host:1/bucket/k"),
        ("s3://bucket?region=r&endpoint_url=http://o", "cats", "r", "http://o/bucket/k"),
        ("s3://bucket?region=r", "cats", "r", "http://host:1/bucket/k"),
        ("s3://bucket", "lab", "us-east-1", "http://bucket.lab/k"),
        ("s3://bucket?endpoint_url=http://o", "lab", "us-east-1", "http://bucket.o/k"),
        ("s3://bucket?addressing=path", "lab", "us-east-1", "http://lab/bucket/k"),
        (
            "s3://bucket?endpoint_url=http://127.0.0.1:9",
            "lab",
            "us-east-1",
            "http://127.0.0.1:9/bucket/k",
        ),
        ("s3://bucket", "aws", "eu-west-1", "https://s3.eu-west-1.amazonaws.com/bucket/k"),
        (
            "s3://bucket?addressing=virtual",
            "aws",
            "eu-west-1",
            "https://bucket.s3.eu-west-1.amazonaws.com/k",
        ),
        ("s3://bucket", "auto", "us-east-1", "https://bucket.s3.us-east-1.amazonaws.com/k"),
        ("s3://bucket", "services", "us-east-1", "http://service/bucket/k"),
    ],
)
async def test_a_profile_is_not_looked_at(
    address: str, profile: str, region: str, url: str, tmp_path: Path
) -> None:
    """Region, endpoint and addressing style come from a profile where the address has none."""
    place = await find_place(split_store(address), _profile(tmp_path, profile))
    assert (place.region, place.url("k")) == (region, url)


async def test_the_daemons_settings_rule_a_clients_keys(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A client's keys go where its own configuration leads, whatever the daemon was started with."""
    config = tmp_path / "config"
    config.write_text("[default]\nregion = d\nendpoint_url = http://daemons\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(config))
    monkeypatch.setenv("AWS_DEFAULT_REGION", "e")
    keys = CredentialSet({"AWS_ACCESS_KEY_ID": "A", "AWS_SECRET_ACCESS_KEY": "s"})
    place = await find_place(split_store("s3://bucket"), keys)
    assert place.url("k") == "https://bucket.s3.us-east-1.amazonaws.com/k"
    own = await find_place(split_store("s3://bucket"), OWN)
    assert (own.region, own.url("k")) == ("e", "http://daemons/bucket/k")
    files = Path.home() / ".aws"
    files.mkdir()
    (files / "config").write_text("[default]\nregion = c\nendpoint_url = http://clients\n")
    place = await find_place(split_store("s3://bucket"), keys)
    assert (place.region, place.url("k")) == ("c", "http://clients/bucket/k")


async def test_a_profile_that_is_gone_stops_the_store(tmp_path: Path) -> None:
    """A profile that does not exist says nothing."""
    place = await find_place(split_store("s3://bucket"), _profile(tmp_path, "nobody"))
    assert place.url("k") == "https://bucket.s3.us-east-1.amazonaws.com/k"


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("region = eu west 1", "eu west 1"),
        ("endpoint_url = host:9000", "host:9000"),
        ("endpoint_url = http://host:port", "http://host:port"),
        ("endpoint_url = http://ex_ample..com", "ex_ample"),
        (f"endpoint_url = http://{'a' * 64}.com", "aaaa"),
        ("endpoint_url = http://host\ns3 =\n  addressing_style = virtual", "endpoint"),
    ],
)
async def test_a_bad_profile_is_a_defect_of_ours(line: str, said: str, tmp_path: Path) -> None:
    """What a profile says and nobody can use is told."""
    config = tmp_path / "config"
    config.write_text(f"[default]\n{line}\n")
    bucket = "b" * 64 if "virtual" in line else "bucket"
    with pytest.raises(NoPlace, match=said):
        await find_place(
            split_store(f"s3://{bucket}"), CredentialSet({"AWS_CONFIG_FILE": str(config)})
        )


async def test_a_moved_bucket_keeps_its_old_host() -> None:
    """On AWS the host follows the region; at an endpoint it stays."""
    place = await find_place(split_store("s3://cats"), OWN)
    assert (await move(place, "eu-west-1")).url("k") == "https://cats.s3.eu-west-1.amazonaws.com/k"
    with pytest.raises(NoPlace, match="no where"):
        await move(place, "no where")
    place = await find_place(split_store("s3://cats?endpoint_url=http://host"), OWN)
    moved = await move(place, "eu-west-1")
    assert (moved.url("k"), moved.region) == ("http://host/cats/k", "eu-west-1")


async def test_a_query_is_encoded_otherwise_than_it_is_signed() -> None:
    """Names and values of a query are percent-encoded whole."""
    place = await find_place(split_store("s3://c?endpoint_url=http://host"), OWN)
    url = place.url(None, {"prefix": "a b/+é", "uploads": ""})
    assert url == "http://host/c/?prefix=a%20b%2F%2B%C3%A9&uploads="
