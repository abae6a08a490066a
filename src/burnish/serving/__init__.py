"""A model behind the interface of OpenAI's API."""
