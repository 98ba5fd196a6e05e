"""Detectors trained on generated clips, and measured on photographs and on clips."""
