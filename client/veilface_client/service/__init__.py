"""The service: what `recognition` does, over HTTPS, and the page that people use."""

from veilface_client.service.app import build_app
from veilface_client.service.running import run_service

__all__ = ["build_app", "run_service"]
