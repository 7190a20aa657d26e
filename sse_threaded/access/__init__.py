"""Access to streams: tickets for clients that can send no cookie, and pages of other origins."""
