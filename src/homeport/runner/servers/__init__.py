"""The app servers, and what every request passes."""
