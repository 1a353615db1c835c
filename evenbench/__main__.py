"""``python -m evenbench``: the command ``bench``."""

from evenbench.command import main

main()
