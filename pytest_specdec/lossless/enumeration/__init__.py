"""Random draws as symbols: a sampler is run once along every path that its draws can take."""
