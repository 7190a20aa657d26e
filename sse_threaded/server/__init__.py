"""What is gunicorn's: connections before and after a request, and responses as the app returns them."""
