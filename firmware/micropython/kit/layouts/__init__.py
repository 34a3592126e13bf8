"""A module for each layout, generated from broker/layouts.yaml; a device imports those it fills."""
