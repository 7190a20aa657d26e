"""Tests with real servers in processes of their own: gunicorn, waitress, Werkzeug's and others."""
