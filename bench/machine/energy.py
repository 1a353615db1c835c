"""Energy of the processor packages, by RAPL's counters (Linux, Documentation/power/powercap/powercap.rst).

Only what is measured is told: no estimate from a thermal design power. A virtual machine shows no counters.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

ZONES = "sys/class/powercap"
PACKAGES = "intel-rapl:*"
"""The zones of packages and of their parts; AMD's processors have the same names."""


def read(root: Path = Path("/")) -> dict[str, tuple[int, int]]:
    """Microjoules so far and the number at which the counter begins again, by zone: of every package, and of the memory
    that a package has a counter of. Empty: none is visible."""
    found = {}
    for zone in sorted((root / ZONES).glob(PACKAGES)):
        name = _text(zone / "name")
        if not (name.startswith("package") or name == "dram"):
            continue  # core and uncore are parts of a package, psys holds it
        counter, limit = _text(zone / "energy_uj"), _text(zone / "max_energy_range_uj")
        if counter.isdigit() and limit.isdigit():
            found[zone.name] = int(counter), int(limit)
    return found


def joules(before: Mapping[str, tuple[int, int]], after: Mapping[str, tuple[int, int]]) -> float | None:
    """Between two readings; a counter that began again counts on. None: none was read both times."""
    both = before.keys() & after.keys()
    if not both:
        return None
    differences = [(after[zone][0] - before[zone][0], after[zone][1]) for zone in both]
    return sum(used if used >= 0 else used + limit for used, limit in differences) / 1e6


def why_invisible(root: Path = Path("/")) -> str:
    """Why there is no reading."""
    zones = list((root / ZONES).glob(PACKAGES))
    if zones:
        return "not visible here: only root may read the counters of /sys/class/powercap (energy_uj)"
    return "not visible here: no energy counters (RAPL) in /sys/class/powercap; a virtual machine has none"


def _text(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""
