"""What a run was measured on."""

import os
import platform
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

CPU_INFO = Path("/proc/cpuinfo")


@dataclass(frozen=True, slots=True)
class Machine:
    """A machine and its state before a run: a load of more than a few tenths says that others worked there too."""

    system: str
    processor: str
    cores: int
    python: str
    engines: dict[str, str]
    load_before: float


def this_machine(engines: Mapping[str, Path]) -> Machine:
    """The one that runs us, with the versions of these engines."""
    return Machine(
        system=f"{platform.system()} {platform.release().partition('-')[0]} {platform.machine()}",
        processor=_processor(),
        cores=os.cpu_count() or 1,
        python=platform.python_version(),
        engines={name: _version(binary) for name, binary in engines.items()},
        load_before=os.getloadavg()[0],
    )


def _version(binary: Path) -> str:
    """The engine's, from a line like 'Redis server v=7.0.15 sha=...'."""
    said = subprocess.check_output([binary, "--version"], text=True)
    return said.partition(" v=")[2].partition(" ")[0]


def _processor() -> str:
    """Its name as the kernel gives it; elsewhere what Python knows."""
    lines = CPU_INFO.read_text("utf-8").splitlines() if CPU_INFO.exists() else []
    named = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return named[0] if named else platform.processor()
