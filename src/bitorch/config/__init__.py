"""How many bits a model gets, and which quantizers that means."""
