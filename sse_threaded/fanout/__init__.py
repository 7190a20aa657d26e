"""Sends one event to many clients: the pump and its parts."""
