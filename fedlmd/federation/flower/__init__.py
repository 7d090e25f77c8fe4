"""Flower's processes: started, supervised, followed. Flower's command line."""
