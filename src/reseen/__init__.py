"""reseen finds the same person again, across cameras and scenes, without labels."""

__version__ = "0.1.0"
