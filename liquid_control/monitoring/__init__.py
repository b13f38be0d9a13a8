"""Pictures and figures of what a robot does and of the neurons that make it do so."""
