"""Photos -> classes, asked of a running AlexNet server (docs/clients.md)."""

__version__ = "0.1.0"
"""The server's, which it is released with."""
