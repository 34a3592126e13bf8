"""The HTTP API and the live page."""

from processors.api.app import ApiOptions, Latest, LiveView, create_app, is_loopback, serve_api

__all__ = ["ApiOptions", "Latest", "LiveView", "create_app", "is_loopback", "serve_api"]
