"""The contract between training, export and server; numpy and Pillow only."""

__version__ = "0.1.0"
