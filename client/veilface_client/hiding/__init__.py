"""Faces made unknowable in photographs and videos."""
