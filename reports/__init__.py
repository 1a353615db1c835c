"""Turns records into reports, one module per format. Reports read records; no other module writes into a report."""
