"""Single sign-on: people log in by an OpenID Connect provider (authorization code flow with
PKCE)."""
