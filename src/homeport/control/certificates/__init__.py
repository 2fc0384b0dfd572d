"""Certificates: which hosts need one, orders at a certification authority, and their renewal."""
