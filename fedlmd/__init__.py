"""Federated image classification that knows what it does not know."""
