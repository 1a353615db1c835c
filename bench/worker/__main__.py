"""``python -P -m bench.worker``."""

from bench.worker.session import main

main()
