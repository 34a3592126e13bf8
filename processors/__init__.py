"""Ingest, stages, stores and the live page of the platform."""
