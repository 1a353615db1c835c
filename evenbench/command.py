"""The command ``bench``."""

from __future__ import annotations

from evenbench import own_packages


def main() -> None:
    """Run the command line; a ``bench.py`` in the user's folder or on ``PYTHONPATH`` does not matter."""
    own_packages.prefer()
    from bench.cli.main import main as run

    run()
