"""Access: tickets for streams, tokens for publishers, and pages of other origins."""
