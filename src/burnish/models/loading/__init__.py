"""Loading a model: what stands in its folder is checked before it is believed
(`burnish.models.loading.load`)."""
