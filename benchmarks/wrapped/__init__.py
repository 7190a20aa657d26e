"""The cost of an app that wraps its streams into a generator of its own."""
