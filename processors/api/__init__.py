"""The HTTP API and the live page."""

from processors.api.access import is_loopback
from processors.api.app import create_app, serve_api
from processors.api.live import Latest, LiveView
from processors.api.services import ApiOptions, Services

__all__ = ["ApiOptions", "Latest", "LiveView", "Services", "create_app", "is_loopback", "serve_api"]
