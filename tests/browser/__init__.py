"""Tests that need Chromium, Firefox or packages from npm."""

NPM = True
