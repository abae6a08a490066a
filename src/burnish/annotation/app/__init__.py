"""The web service: routes only. What they do is in `annotation.service`."""
