"""Mutation testing: small changes of the package, each of which some test should notice.

``python -m tests.mutation --help`` says how to run it; docs/mutation.md has the result.
"""
