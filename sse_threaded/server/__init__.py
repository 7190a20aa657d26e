"""What is gunicorn's: how its workers hand requests to an app, and take responses from it."""
