"""Bytes and HTTP: events, their encoding and decoding, requests, problems. No thread, no clock, no socket."""
