"""Tests that need redis-server, and one that needs valkey-server."""
