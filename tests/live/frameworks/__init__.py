"""The apps of docs/frameworks.md, as they stand on that page, under the real gunicorn with both workers."""
