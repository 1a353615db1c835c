"""``python -m evenbench``: the command ``bench``."""

from evenbench.command import main

if __name__ == "__main__":  # not where a process of bench site imports it
    main()
