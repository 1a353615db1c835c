"""``python -m bench.cli``."""

from bench.cli.main import main

if __name__ == "__main__":  # not where a process of bench site imports it
    main()
