"""evenbench's harness: plan, run, certify, measure, keep. ``bench.cli`` is the top."""
