"""Base against present."""
