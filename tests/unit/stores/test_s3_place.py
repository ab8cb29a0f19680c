"""Host, path and region of a bucket."""

from __future__ import annotations

from pathlib import Path

import pytest

from wherry.wire.address import normalize_store, split_store
from wherryd.stores.credentials import StoreCredentials
from wherryd.stores.s3.place import find_place, move

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


@pytest.mark.parametrize(("address", "url"), PLACES.items(), ids=PLACES.keys())
async def test_a_bucket_is_looked_for_elsewhere(address: str, url: str) -> None:
    """On AWS the bucket is part of the host's name; at another endpoint part of the path."""
    place = await find_place(split_store(normalize_store(address, {})), StoreCredentials())
    assert place.url("k ey") == url


async def test_a_profile_is_not_looked_at(tmp_path: Path) -> None:
    """Region and endpoint come from a client's profile where the address has none."""
    config = tmp_path / "config"
    config.write_text(
        "[profile cats]\nregion = eu-north-1\nendpoint_url = http://host:1\n[default]\nregion = x\n"
    )
    credentials = StoreCredentials()
    credentials.hand_over({"AWS_PROFILE": "cats", "AWS_CONFIG_FILE": str(config)})
    place = await find_place(split_store("s3://bucket"), credentials)
    assert (place.region, place.url("k")) == ("eu-north-1", "http://host:1/bucket/k")
    place = await find_place(split_store("s3://bucket?region=r&endpoint_url=http://o"), credentials)
    assert (place.region, place.url("k")) == ("r", "http://o/bucket/k")


async def test_a_profile_that_is_gone_stops_the_store(tmp_path: Path) -> None:
    """A profile that does not exist says nothing; what it should have said is asked elsewhere."""
    credentials = StoreCredentials()
    credentials.hand_over({"AWS_PROFILE": "nobody", "AWS_CONFIG_FILE": str(tmp_path / "none")})
    place = await find_place(split_store("s3://bucket"), credentials)
    assert place.region == "us-east-1"


async def test_a_moved_bucket_keeps_its_old_host() -> None:
    """On AWS the host follows the region; at an endpoint it stays."""
    place = await find_place(split_store("s3://cats"), StoreCredentials())
    assert (await move(place, "eu-west-1")).url("k") == "https://cats.s3.eu-west-1.amazonaws.com/k"
    place = await find_place(split_store("s3://cats?endpoint_url=http://host"), StoreCredentials())
    moved = await move(place, "eu-west-1")
    assert (moved.url("k"), moved.region) == ("http://host/cats/k", "eu-west-1")


async def test_a_query_is_encoded_otherwise_than_it_is_signed() -> None:
    """Names and values of a query are percent-encoded whole."""
    place = await find_place(split_store("s3://c?endpoint_url=http://host"), StoreCredentials())
    url = place.url(None, {"prefix": "a b/+é", "uploads": ""})
    assert url == "http://host/c/?prefix=a%20b%2F%2B%C3%A9&uploads="
