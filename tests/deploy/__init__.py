"""Tests of deploy/ with the real nginx, Caddy and systemd."""
