"""The routes, topic by topic."""
