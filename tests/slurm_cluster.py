"""A real SLURM cluster on loopback: munge, a controller, and two node daemons."""

from __future__ import annotations

import getpass
import os
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path

IDLE = ["node1", "idle", "node2", "idle"]
PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch")
SBIN = "/usr/sbin"
CONFIGURATION = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
ProctrackType=proctrack/pgid
TaskPlugin=task/none
MpiDefault=none
SwitchType=switch/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
ReturnToService=2
SlurmdTimeout=300
KillWait=20
MinJobAge=60
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
NodeName=node1 NodeHostname={host} NodeAddr=127.0.0.1 Port={first} CPUs={cpus} RealMemory=1000 Feature=fast
NodeName=node2 NodeHostname={host} NodeAddr=127.0.0.1 Port={second} CPUs={cpus} RealMemory=1000 Feature=slow
PartitionName=main Nodes=node1,node2 Default=YES MaxTime=INFINITE State=UP
"""


def missing_programs() -> list[str]:
    """Which of SLURM's programs are not installed."""
    path = f"{os.environ.get('PATH', '')}:{SBIN}"
    return [name for name in PROGRAMS if shutil.which(name, path=path) is None]


class SlurmCluster:
    """``environment``: what a user of it needs."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="slurm-"))
        self.folder.chmod(0o755)
        ports = [_free_port() for _ in range(3)]
        configuration = self.folder / "slurm.conf"
        configuration.write_text(
            CONFIGURATION.format(
                host=socket.gethostname(), user=getpass.getuser(), folder=self.folder, controller=ports[0],
                first=ports[1], second=ports[2], cpus=os.cpu_count(),
            )
        )  # fmt: skip
        (self.folder / "state").mkdir()
        key = self.folder / "munge.key"
        key.write_bytes(secrets.token_bytes(128))
        key.chmod(0o400)
        self.environment = {"SLURM_CONF": str(configuration), "PATH": f"{os.environ['PATH']}:{SBIN}"}
        self._processes: list[subprocess.Popen[bytes]] = []
        munge = ["socket", "key-file", "pid-file", "log-file", "seed-file"]
        names = ["munge.socket", "munge.key", "munge.pid", "munge.log", "munge.seed"]
        paths = [f"--{option}={self.folder / name}" for option, name in zip(munge, names, strict=True)]
        self._start("munged", "--foreground", "--force", *paths)
        self._start("slurmctld", "-D", "-f", str(configuration))
        for node in ("node1", "node2"):
            self._start("slurmd", "-D", "-N", node, "-f", str(configuration))
        self._wait()

    def _start(self, program: str, *arguments: str) -> None:
        log = self.folder / f"{program}-{len(self._processes)}.out"
        with log.open("wb") as file:
            command = [shutil.which(program, path=self.environment["PATH"]) or program, *arguments]
            self._processes.append(
                subprocess.Popen(command, env=os.environ | self.environment, stdout=file, stderr=file)
            )
        if program == "munged":
            while not (self.folder / "munge.socket").exists():
                time.sleep(0.05)

    def command(self, *arguments: str) -> str:
        """Standard output of one of SLURM's commands."""
        done = subprocess.run(
            arguments, env=os.environ | self.environment, capture_output=True, text=True, check=False, timeout=120
        )
        return done.stdout

    def _wait(self) -> None:
        deadline = time.monotonic() + 200
        while self.command("sinfo", "--noheader", "--Node", "--format=%N %t").split() != [
            "node1",
            "idle",
            "node2",
            "idle",
        ]:
            if time.monotonic() > deadline or any(process.poll() is not None for process in self._processes):
                logs = "\n".join(f"{path.name}: {path.read_text()[-800:]}" for path in self.folder.glob("*.out"))
                logs += "\n".join(f"{path.name}: {path.read_text()[-800:]}" for path in self.folder.glob("*.log"))
                self.close()
                raise RuntimeError(f"SLURM did not start: {logs}")
            time.sleep(0.3)

    def close(self) -> None:
        """End all jobs and daemons, the node daemons first."""
        self.command("scancel", "--state=RUNNING", "--signal=KILL", "--full", "--user", getpass.getuser())
        for process in reversed(self._processes):
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)


def _free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])
