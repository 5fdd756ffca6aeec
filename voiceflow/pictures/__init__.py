"""Every plot, drawn without pyplot so that nothing is kept between two of them."""
