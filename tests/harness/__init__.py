"""What starts real programs for tests and benchmarks: browsers, redis-server, nginx, Caddy."""
