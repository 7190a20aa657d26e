"""Publishing over HTTP: the WSGI app that takes events, and the client of the command line."""
